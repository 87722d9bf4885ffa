//! The kinds of objects, and the arena's facts about each.
//!
//! A new kind is one line here and one line in `recovery/kinds.rs`.

/// Declares [`Kind`] and its facts from one table.
macro_rules! kinds {
    ($($kind:ident = $number:literal, $name:literal, lends: $lends:literal, many: $many:literal;)*) => {
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

            /// Returns whether the holder of such an object's lock has references into shared memory, which other
            /// threads may have borrowed from it.
            pub(crate) fn lends_memory(self) -> bool {
                match self {
                    $(Kind::$kind => $lends,)*
                }
            }

            /// Returns whether such an object may own more blocks than it has room to list. Their tags find them.
            pub(super) fn owns_many(self) -> bool {
                match self {
                    $(Kind::$kind => $many,)*
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

kinds! {
    Lock = 1, "lock", lends: false, many: false;
    Process = 2, "process", lends: false, many: false;
    Queue = 3, "queue", lends: false, many: true;
    JoinableQueue = 4, "queue", lends: false, many: true;
    Connection = 5, "connection", lends: false, many: false;
    RLock = 16, "recursive lock", lends: false, many: false;
    Mutex = 17, "mutex", lends: true, many: false;
    RwLock = 18, "read-write lock", lends: true, many: false;
    Semaphore = 19, "semaphore", lends: false, many: false;
    Event = 20, "event", lends: false, many: false;
    Condvar = 21, "condition variable", lends: false, many: false;
    Barrier = 22, "barrier", lends: false, many: false;
    Once = 23, "once", lends: false, many: false;
    Latch = 24, "latch", lends: false, many: false;
    Value = 25, "value", lends: false, many: false;
    Array = 26, "array", lends: true, many: false;
    Dict = 40, "dict", lends: false, many: true;
    List = 41, "list", lends: false, many: true;
    Pool = 60, "pool", lends: false, many: false;
    PoolShared = 61, "pool", lends: false, many: true;
}
