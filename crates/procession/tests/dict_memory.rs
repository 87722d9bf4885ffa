//! What dicts and lists take in shared memory goes back to the kernel.

mod support;

use procession::state::List;
use procession::{Dict, Process};
use procession_testkit::{Audit, isolated};
use support::{arena, watched};

/// What stays for good: pages of tables that were touched once, and the span of each size that is in use.
const SLACK: u64 = 2 << 20;

fn value(n: u64) -> Vec<u8> {
    vec![n as u8; 20 + n as usize % 300]
}

#[test]
fn it_comes_back_when_a_dict_is_cleared_or_emptied() {
    isolated!({
        let _dog = watched();
        let dict = Dict::new().unwrap();
        let audit = Audit::start(Some(arena())).allow_bytes(SLACK);
        let full = || !audit.leaks().is_empty();
        dict.extend((0..60_000).map(|n| (n, value(n)))).unwrap();
        assert!(full());
        dict.clear().unwrap();
        audit.assert_back();
        dict.extend((0..60_000).map(|n| (n, value(n)))).unwrap();
        assert!(full());
        for n in 0..60_000 {
            assert_eq!(dict.remove(&n), Ok(Some(value(n))));
        }
        audit.assert_back();
    });
}

#[test]
fn it_comes_back_when_a_list_is_cleared() {
    isolated!({
        let _dog = watched();
        let list = List::new().unwrap();
        let audit = Audit::start(Some(arena())).allow_bytes(SLACK);
        list.extend((0..60_000).map(value)).unwrap();
        assert!(!audit.leaks().is_empty());
        list.clear().unwrap();
        audit.assert_back();
    });
}

/// Who filled it has gone, and its memory belonged to nobody but the dict.
#[test]
fn it_comes_back_whoever_took_it() {
    isolated!({
        let _dog = watched();
        let dict = Dict::<u64, Vec<u8>>::new().unwrap();
        Process::spawn(|| (), ()).unwrap().join().unwrap();
        let audit = Audit::start(Some(arena())).allow_bytes(SLACK);
        let fill = |dict: Dict<u64, Vec<u8>>| dict.extend((0..60_000).map(|n| (n, value(n))));
        Process::spawn(fill, (dict.clone(),)).unwrap().join().unwrap().unwrap();
        assert_eq!(dict.len(), 60_000);
        assert!(!audit.leaks().is_empty());
        dict.clear().unwrap();
        audit.assert_back();
    });
}
