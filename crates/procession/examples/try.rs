use procession::*;
fn work(name: String, lock: Lock) -> procession::Result<usize> {
    let _h = lock.lock()?;
    println!("{name}");
    Ok(name.len())
}
fn main() -> procession::Result<()> {
    let t = std::time::Instant::now();
    let lock = Lock::new()?;
    let p = Process::spawn(work, ("Egon".to_string(), lock.clone()))?;
    println!("{:?}", p.join());
    println!("{:?} first", t.elapsed());
    let p = Process::spawn(
        |l: Lock| {
            std::mem::forget(l.lock().unwrap());
            std::process::abort()
        },
        (lock.clone(),),
    )?;
    let r: std::result::Result<(), _> = p.join();
    println!("{r:?} {lock:?} {:?}", lock.lock());
    println!("{:?}", lock.lock_or_recover()?.recovered_from());
    let p = Process::spawn(|| -> u32 { panic!("hu {}", 3) }, ())?;
    println!("{:?}", p.join());
    let n: u32 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(2000);
    let t = std::time::Instant::now();
    for _ in 0..n {
        Process::spawn(|| (), ())?.join()?;
    }
    println!("{:?} per spawn+join", t.elapsed() / n);
    Ok(())
}
