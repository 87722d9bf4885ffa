//! Sending and receiving at one end of a pipe.

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::error::{GetError, PutError};
use super::{receiving, sending};
use crate::codec::encoding::Message;
use crate::os::clock::Deadline;

impl<A: Message, B: Message> Connection<A, B> {
    /// Sends a message. Waits for room without a limit.
    ///
    /// # Errors
    /// [`PutError::Closed`] if the other end is gone. Otherwise, the errors of [`Queue::put`](crate::Queue::put).
    ///
    /// # If a process dies
    /// If the process dies during this call, it has either sent the whole message or nothing.
    ///
    /// ```
    /// let (a, b) = procession::pipe::<u32, u32>()?;
    /// a.send(1)?;
    /// assert_eq!(b.recv()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn send(&self, message: A) -> Result<(), PutError<A>> {
        self.put(message, Deadline::NEVER)
    }

    /// Sends a message if there is room. Does not wait.
    ///
    /// # Errors
    /// [`PutError::Full`] if there is no room. Otherwise, the errors of [`send`](Connection::send).
    ///
    /// ```
    /// let (a, b) = procession::pipe::<u32, u32>()?;
    /// a.try_send(1)?;
    /// drop(b);
    /// assert!(a.try_send(2).is_err());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_send(&self, message: A) -> Result<(), PutError<A>> {
        self.put(message, Deadline::after(Duration::ZERO))
    }

    /// Sends a message. Waits for room for at most `timeout`.
    ///
    /// # Errors
    /// [`PutError::Full`] if there was no room in time. Otherwise, the errors of [`send`](Connection::send).
    ///
    /// ```
    /// use std::time::Duration;
    /// let (a, b) = procession::pipe::<u32, u32>()?;
    /// a.send_timeout(1, Duration::from_secs(1))?;
    /// assert_eq!(b.recv()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn send_timeout(&self, message: A, timeout: Duration) -> Result<(), PutError<A>> {
        self.put(message, Deadline::after(timeout))
    }

    /// Sends a message. Waits for room until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`send_timeout`](Connection::send_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let (a, b) = procession::pipe::<u32, u32>()?;
    /// a.send_deadline(1, Instant::now() + Duration::from_secs(1))?;
    /// assert_eq!(b.recv()?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn send_deadline(&self, message: A, deadline: Instant) -> Result<(), PutError<A>> {
        self.put(message, Deadline::at(deadline))
    }

    fn put(&self, message: A, deadline: Deadline) -> Result<(), PutError<A>> {
        if self.is_other_end_gone() {
            return Err(PutError::Closed(message));
        }
        sending::put(self.outgoing(), message, deadline)
    }

    /// Receives a message. Waits for one without a limit.
    ///
    /// # Errors
    /// [`GetError::Closed`] if there is no message and the other end is gone. Otherwise, the errors of
    /// [`Queue::get`](crate::Queue::get).
    ///
    /// # If a process dies
    /// If the other end's process dies, the messages that it had sent are received first. After them, this
    /// call fails with [`GetError::Closed`].
    ///
    /// ```
    /// use procession::queue::GetError;
    /// let (a, b) = procession::pipe::<u32, u32>()?;
    /// a.send(1)?;
    /// drop(a);
    /// assert_eq!((b.recv(), b.recv()), (Ok(1), Err(GetError::Closed)));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn recv(&self) -> Result<B, GetError> {
        receiving::get(self.incoming(), Deadline::NEVER)
    }

    /// Receives a message if there is one. Does not wait.
    ///
    /// # Errors
    /// [`GetError::Empty`] if there is no message. Otherwise, the errors of [`recv`](Connection::recv).
    ///
    /// ```
    /// use procession::queue::GetError;
    /// let (a, b) = procession::pipe::<u32, u32>()?;
    /// assert_eq!(b.try_recv(), Err(GetError::Empty));
    /// a.send(1)?;
    /// assert_eq!(b.try_recv(), Ok(1));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn try_recv(&self) -> Result<B, GetError> {
        receiving::get(self.incoming(), Deadline::after(Duration::ZERO))
    }

    /// Receives a message. Waits for one for at most `timeout`.
    ///
    /// # Errors
    /// [`GetError::Empty`] if no message came in time. Otherwise, the errors of [`recv`](Connection::recv).
    ///
    /// ```
    /// use std::time::Duration;
    /// use procession::{pipe, queue::GetError};
    /// let (_a, b) = pipe::<u32, u32>()?;
    /// assert_eq!(b.recv_timeout(Duration::from_millis(10)), Err(GetError::Empty));
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<B, GetError> {
        receiving::get(self.incoming(), Deadline::after(timeout))
    }

    /// Receives a message. Waits for one until `deadline` at the latest.
    ///
    /// # Errors
    /// The errors of [`recv_timeout`](Connection::recv_timeout).
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let (a, b) = procession::pipe::<u32, u32>()?;
    /// a.send(1)?;
    /// assert_eq!(b.recv_deadline(Instant::now() + Duration::from_secs(1))?, 1);
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn recv_deadline(&self, deadline: Instant) -> Result<B, GetError> {
        receiving::get(self.incoming(), Deadline::at(deadline))
    }
}
