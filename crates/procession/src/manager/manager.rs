//! [`Manager`]: creates shared objects, and finds objects by name.

use super::named::Named;
use super::names;
use crate::Result;

/// Creates the objects that processes share, and finds objects by name.
///
/// Names are the same in the whole family: every process gets the same object for a name. An object with a
/// name exists at least until the name is [removed](Manager::remove) or the family ends. Error messages and
/// reports show the name.
///
/// There is no manager process. All objects are in the family's shared memory. So a process uses them without
/// sending requests, and killing a process destroys no object.
///
/// # If a process dies
///
/// If a process dies while it creates an object with a name, the name belongs to the complete object or to no
/// object. Objects that the process has named before are not affected.
///
/// ```
/// use procession::{Manager, Process};
///
/// let manager = Manager::new()?;
/// let stock = manager.dict::<String, u32>()?; // without a name: send the handle to other processes
/// stock.insert("apples", 3)?;
/// manager.named("greetings").list::<String>()?.push("hello".to_string())?;
/// let first = || Manager::new()?.named("greetings").list::<String>()?.get(0);
/// assert_eq!(Process::spawn(first, ())?.join()??, Some("hello".to_string()));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Manager {
    pub(super) home: Home,
}

/// The place where objects are created.
#[derive(Clone, Debug)]
pub(super) enum Home {
    /// In the shared memory of this family.
    Family,
}

impl Manager {
    /// Returns the manager of this family.
    ///
    /// # Errors
    /// [`Error::Os`](crate::Error::Os) if the shared memory cannot be created, and
    /// [`Error::Forked`](crate::Error::Forked) in a plain fork of a member of the family.
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let dict = manager.dict::<String, u32>()?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn new() -> Result<Manager> {
        crate::arena::member::arena()?;
        Ok(Manager { home: Home::Family })
    }

    /// Looks up or creates an object by name. The method that is called next on the result chooses the type
    /// of the object.
    ///
    /// The name identifies the object in the whole family. The label of [`Lock::labeled`](crate::Lock::labeled)
    /// and its kin only appears in messages: this method does not find an object by its label.
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// let one = manager.named("a list").list::<u32>()?;
    /// let same = manager.named("a list").list::<u32>()?;
    /// one.push(1)?;
    /// assert_eq!(same.to_vec()?, [1]);
    /// assert!(manager.named("a list").lock().is_err());
    /// # manager.remove("a list")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn named<'a>(&'a self, name: &'a str) -> Named<'a> {
        Named { manager: self, name }
    }

    /// Returns all names, in no particular order.
    ///
    /// # Errors
    /// As [`Dict::get`](crate::Dict::get).
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// manager.named("door").lock()?;
    /// assert!(manager.names()?.contains(&"door".to_string()));
    /// # manager.remove("door")?;
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn names(&self) -> Result<Vec<String>> {
        match self.home {
            Home::Family => names::of_family::<()>()?.keys().collect(),
        }
    }

    /// Removes a name. Returns true if the name existed. Handles to its object stay valid. The next process
    /// that asks for the name gets a new object.
    ///
    /// # Errors
    /// As [`Dict::remove`](crate::Dict::remove).
    ///
    /// ```
    /// let manager = procession::Manager::new()?;
    /// manager.named("old").lock()?;
    /// assert!(manager.remove("old")? && !manager.remove("old")?);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn remove(&self, name: &str) -> Result<bool> {
        match self.home {
            Home::Family => Ok(names::of_family::<()>()?.remove(name)?.is_some()),
        }
    }
}
