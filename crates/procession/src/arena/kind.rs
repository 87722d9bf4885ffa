//! The kinds of objects, and what the arena has to know of each.
//!
//! A new kind is one line here and one line in `recovery/kinds.rs`.

/// Declares [`Kind`] and its facts from one table.
macro_rules! kinds {
    ($($kind:ident = $number:literal, $name:literal, internal: $internal:literal, many: $many:literal;)*) => {
        /// What an object is.
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

            /// Returns whether only the library's own code acquires the locks of such an object, for a moment or for
            /// the time that a closure takes. Another process must not begin a change in the middle of one.
            pub(crate) fn is_inside(self) -> bool {
                match self {
                    $(Kind::$kind => $internal,)*
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
    Lock = 1, "lock", internal: false, many: false;
    Process = 2, "process", internal: false, many: false;
    Queue = 3, "queue", internal: true, many: true;
    JoinableQueue = 4, "queue", internal: true, many: true;
    Connection = 5, "connection", internal: false, many: false;
    RLock = 16, "recursive lock", internal: false, many: false;
    Mutex = 17, "mutex", internal: false, many: false;
    RwLock = 18, "read-write lock", internal: false, many: false;
    Semaphore = 19, "semaphore", internal: true, many: false;
    Event = 20, "event", internal: false, many: false;
    Condvar = 21, "condition variable", internal: false, many: false;
    Barrier = 22, "barrier", internal: false, many: false;
    Once = 23, "once", internal: false, many: false;
    Latch = 24, "latch", internal: false, many: false;
    Value = 25, "value", internal: true, many: false;
    Array = 26, "array", internal: false, many: false;
    Dict = 40, "dict", internal: true, many: true;
    List = 41, "list", internal: true, many: true;
    Pool = 60, "pool", internal: false, many: false;
    PoolCore = 61, "pool", internal: true, many: true;
}
