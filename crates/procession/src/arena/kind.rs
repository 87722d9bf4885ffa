//! The kinds of objects, and what the arena knows about each kind.
//!
//! A new kind is one line here and one line in `recovery/kinds.rs`.

/// Facts about a kind, as bits.
mod fact {
    pub(super) const NONE: u8 = 0;
    /// The hot line is a `LockBody` (`sync/raw/lock_body.rs`), which recovery releases.
    pub(super) const LOCK: u8 = 1;
    /// The holder of the lock has references into shared memory. Other threads may have borrowed these
    /// references from the holder.
    pub(super) const LENDS: u8 = 2;
    /// The object may own more blocks than it has room to list. They are found by their tags.
    pub(super) const MANY: u8 = 4;
    /// Cells in the object's blocks name the processes that hold a part of the object, such as a permit.
    pub(super) const CELLS: u8 = 8;
}
use fact::{CELLS, LENDS, LOCK, MANY, NONE};

/// Declares [`Kind`] from a table. Each line has a number, a name for error messages, and facts.
macro_rules! kinds {
    ($($kind:ident = $number:literal, $name:literal, $facts:expr;)*) => {
        /// The kind of an object.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Kind {
            $($kind = $number,)*
        }

        impl Kind {
            /// Returns the name that error messages use.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }

            const fn facts(self) -> u8 {
                match self {
                    $(Kind::$kind => $facts,)*
                }
            }

            /// Returns the kind with this number.
            pub(super) fn read(number: u8) -> Option<Kind> {
                match number {
                    $($number => Some(Kind::$kind),)*
                    _ => None,
                }
            }
        }
    };
}

impl Kind {
    /// Returns whether the hot line of such an object is a lock.
    pub(crate) const fn is_lock(self) -> bool {
        self.facts() & LOCK != 0
    }

    /// Returns whether the holder of such an object's lock has references into shared memory that other
    /// threads may have borrowed.
    pub(crate) fn lends_memory(self) -> bool {
        self.facts() & LENDS != 0
    }

    /// Returns whether such an object may own more blocks than it has room to list.
    pub(super) fn owns_many(self) -> bool {
        self.facts() & MANY != 0
    }

    /// Returns whether cells in such an object's blocks name processes.
    pub(super) fn has_cells(self) -> bool {
        self.facts() & CELLS != 0
    }
}

// A new kind takes any free number from 1 to 255.
kinds! {
    Lock = 1, "lock", LOCK;
    Process = 2, "process", NONE;
    Queue = 3, "queue", MANY;
    JoinableQueue = 4, "queue", MANY;
    Connection = 5, "connection", NONE;
    RLock = 16, "recursive lock", LOCK;
    Mutex = 17, "mutex", LOCK | LENDS;
    RwLock = 18, "read-write lock", LOCK | LENDS;
    Semaphore = 19, "semaphore", CELLS;
    Event = 20, "event", NONE;
    Condvar = 21, "condition variable", NONE;
    Barrier = 22, "barrier", NONE;
    Once = 23, "once", LOCK;
    Latch = 24, "latch", NONE;
    Value = 25, "value", NONE;
    Array = 26, "array", LOCK | LENDS;
    Dict = 40, "dict", MANY;
    List = 41, "list", MANY;
    // `Pool` is the object of the owner's handle. `PoolShared` is what the owner shares with the workers.
    Pool = 60, "pool", NONE;
    PoolShared = 61, "pool", MANY;
}
