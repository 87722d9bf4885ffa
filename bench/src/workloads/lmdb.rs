//! The figures of LMDB, through heed, in memory. Each lookup and each change is a transaction. Changes are not synced.

use heed::types::{Bytes, U64};
use heed::{Database, Env, EnvFlags, EnvOpenOptions, byteorder::NativeEndian};

use super::entries::{ENTRIES, INSERTS, key, timed};
use crate::Result;
use crate::machine::pin;
use crate::workload::{Sample, ensure};

type Number = U64<NativeEndian>;

const GETS: u64 = 2_000_000;
const UPDATES: u64 = 300_000;

/// A store in a folder of its own in memory. The folder is removed with the store.
struct Store {
    env: Env,
    folder: std::path::PathBuf,
}

impl Store {
    fn open() -> Result<Store> {
        let folder =
            std::path::Path::new("/dev/shm").join(format!("procession-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let mut options = EnvOpenOptions::new();
        // SAFETY: no other code opens the store, so none leaves it stale or truncates it.
        let env = unsafe {
            options.map_size(1 << 30).flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP).open(&folder)?
        };
        Ok(Store { env, folder })
    }

    fn database<V: 'static>(&self) -> Result<Database<Number, V>> {
        let mut change = self.env.write_txn()?;
        let database = self.env.create_database(&mut change, None)?;
        change.commit()?;
        Ok(database)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub fn get() -> Result<Sample> {
    pin(0);
    let store = Store::open()?;
    let database = store.database::<Number>()?;
    let mut change = store.env.write_txn()?;
    (0..ENTRIES).try_for_each(|n| database.put(&mut change, &n, &(n + 1)))?;
    change.commit()?;
    let look = |n| {
        let looking = store.env.read_txn()?;
        let found = database.get(&looking, &key(n))?;
        ensure(found == Some(key(n) + 1), "a wrong value")
    };
    Ok(Sample::new(timed(GETS, look)?))
}

pub fn update() -> Result<Sample> {
    pin(0);
    let store = Store::open()?;
    let database = store.database::<Number>()?;
    let count = |_| {
        let mut change = store.env.write_txn()?;
        let before = database.get(&change, &0)?.unwrap_or(0);
        database.put(&mut change, &0, &(before + 1))?;
        Ok(change.commit()?)
    };
    let rate = timed(UPDATES, count)?;
    let looking = store.env.read_txn()?;
    ensure(database.get(&looking, &0)? == Some(UPDATES), "an update was lost")?;
    Ok(Sample::new(rate))
}

pub fn insert() -> Result<Sample> {
    pin(0);
    let store = Store::open()?;
    let (database, value) = (store.database::<Bytes>()?, [7; 92]);
    let insert = |n| {
        let mut change = store.env.write_txn()?;
        database.put(&mut change, &n, &value)?;
        Ok(change.commit()?)
    };
    let rate = timed(INSERTS, insert)?;
    let looking = store.env.read_txn()?;
    ensure(database.len(&looking)? == INSERTS, "an entry is missing")?;
    Ok(Sample::new(rate))
}
