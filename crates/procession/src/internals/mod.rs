//! The inside, for the crash tests: joining the arena as a process that no supervisor made,
//! declaring one dead, and taking a census of what there is. Not part of the public interface.
#![allow(unsafe_code)] // Announces that a process is a member although nobody forked it as one.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::arena::blocks::{Tag, Use};
use crate::arena::classes::blocks_in;
use crate::arena::records::Record;
use crate::arena::thread::with_me;
use crate::arena::{Arena, blocks, collect, handle, heap, member, process_body, slots, sweep};
use crate::os::credentials::Credentials;
use crate::os::process::Ended;
use crate::os::{credentials, futex, process, threads};
use crate::supervisor::{entrypoint, options};
use crate::sync::raw::park;
use crate::sync::{Condvar, RwLock, Semaphore};
use crate::{Lock, Message, Queue, Result, codec, recovery, supervisor};

pub use crate::arena::handle::HasHandle;

pub use crate::os::faults::{Call, Role, Switch};
pub use crate::queue::ring::{End, Occupied};
pub use crate::rules::{Rule, break_rule};
pub use crate::sync::raw::{event, word};

/// The owner of a small span that has none: see [`Census::small_spans`].
pub const NOBODY: u32 = blocks::NOBODY;

fn arena() -> &'static Arena {
    member::arena().expect("the tests have an arena")
}

/// Address, length and descriptor of the arena in this process.
pub fn mapping() -> (*mut u8, usize, RawFd) {
    let (base, bytes) = (arena().base(), arena().layout.bytes as usize);
    (base, bytes, member::memfd().expect("the tests are main").as_raw_fd())
}

/// Which system calls fail, in every process of the family.
pub fn faults() -> &'static Switch {
    &arena().header().faults
}

/// Sets a slot up for a process that joins by [`become_member`].
pub fn open_slot(slot: u32) {
    let arena = arena();
    arena.header().slots_used.fetch_max(slot + 1, Ordering::AcqRel);
    arena.slot(slot).state.store(slots::RUNNING, Ordering::Release);
}

/// Makes a slot a spare in which no child sleeps, for a spawner to claim.
pub fn open_spare(slot: u32) {
    let arena = arena();
    arena.header().slots_used.fetch_max(slot + 1, Ordering::AcqRel);
    arena.slot(slot).state.store(slots::SPARE, Ordering::Release);
    arena.header().spare_slots[0].store(slot, Ordering::Release);
    arena.header().stage.store(crate::arena::header::stage::RUNNING, Ordering::Release);
    // Children of this process have its credentials.
    let mine = Credentials::of_this_thread().expect("the tests have credentials");
    arena.header().credentials_digest.store(mine.digest(), Ordering::Relaxed);
    arena.header().bounding.store(mine.bounding(), Ordering::Relaxed);
    arena.header().bounding_watched.store(!0, Ordering::Relaxed);
    arena.header().user_namespace.store(credentials::user_namespace(), Ordering::Relaxed);
}

/// Tells who waits for a spare that there may be one.
pub fn wake_spawners() {
    arena().header().spares.fetch_add(2, Ordering::SeqCst);
    futex::wake_all(&arena().header().spares);
}

/// Makes the supervisor's working directory this process's, so that a request needs to name none.
pub fn come_home() {
    let (device, inode) = process::cwd_identity().expect("the tests have a working directory");
    arena().header().cwd_device.store(device, Ordering::Relaxed);
    arena().header().cwd_inode.store(inode, Ordering::Relaxed);
}

/// The phase of a slot's state: see `arena/slots.rs`.
pub fn slot_phase(slot: u32) -> u32 {
    slots::phase(arena().slot(slot).state.load(Ordering::Acquire))
}

/// In a fork that bypassed the library's own handler: this process is the one of `slot` now.
pub fn become_member(slot: u32) {
    member::become_child(slot);
    arena().slot(slot).pid.store(process::pid(), Ordering::Release);
}

/// In a fork that has become a member: the handles that it inherited from the process of `slot` are its own.
pub fn inherit_handles(slot: u32) {
    let (arena, me) = (arena(), member::slot());
    arena.held_objects(slot).for_each(|index| arena.held_objects(me).set(index));
}

/// Declares the process of `slot` dead by SIGKILL and repairs what it left.
pub fn recover(slot: u32) {
    recovery::recover(arena(), slot, Some(Ended::Signaled { signal: libc::SIGKILL, core: false }));
}

/// Has others go on past the process of `slot`, which has been stopped.
pub fn pass_by(slot: u32) {
    recovery::pass_by(arena(), slot);
}

/// Repairs what the process of `slot` left, which has exited with code 0.
pub fn recover_exited(slot: u32) {
    recovery::recover(arena(), slot, Some(Ended::Exited(0)));
}

/// Says that the function of this process has returned, as a child does before it exits.
pub fn say_returned() {
    arena().slot(member::slot()).leaving.store(slots::RETURNED, Ordering::Release);
}

/// Says that this many more threads of this process use nothing that it holds, as the library's own do not.
pub fn count_own_threads(threads: u32) {
    (0..threads).for_each(|_| std::mem::forget(threads::Own::begin()));
}

/// Has the collector make a pass, as this process.
pub fn collect() {
    arena().header().collect_wanted.store(0, Ordering::SeqCst);
    collect::want(arena());
}

/// Has the collector make a pass if somebody asked for one, as the supervisor does after each death.
pub fn collect_if_wanted() {
    collect::if_wanted(arena(), &Record::private(), |_, _| ());
}

/// Has the collector make a pass as the supervisor's.
pub fn collect_as_supervisor() {
    arena().header().collect_wanted.store(1, Ordering::SeqCst);
    collect_if_wanted();
}

/// Ends what a dead supervisor was doing, as main does when the family is lost.
pub fn recover_supervisor() {
    sweep::after_supervisor(arena());
}

/// The last act of the process in `slot`: it says that it is done.
pub fn finish(slot: u32) {
    if let Some((_, _, body)) = process_body::object_of(arena(), arena().slot(slot)) {
        body.finish();
    }
}

/// Gives a block of this process, which is that of `slot`, to its process object as the result.
pub fn give_result(slot: u32, block: u64) {
    if let Some((index, object, _)) = process_body::object_of(arena(), arena().slot(slot)) {
        process_body::attach(arena(), slot, object, index, process_body::RESULT, block);
    }
}

/// Has this thread have its record.
pub fn enroll() {
    with_me(|_| ()).expect("the tests are members");
}

/// Announces that this thread waits for an item of a queue, and not any more.
pub fn say_waiting<T>(queue: &Queue<T>, yes: bool) {
    let word = arena().offset_of(&queue.ring().control().filled.word) | park::EVENT;
    let said = with_me(|me| me.record().waits_for.store(if yes { word } else { 0 }, Ordering::SeqCst));
    said.expect("the tests are members");
}

/// A word on which a queue's consumers sleep.
pub fn queue_events<T>(queue: &Queue<T>) -> &'static AtomicU32 {
    let arena = arena();
    let at = arena.offset_of(&queue.ring().control().filled.word);
    arena.futex_word(at).expect("it is in the arena")
}

/// Whether a word of the arena lies in a block that belongs to somebody.
pub fn is_owned(word: &'static AtomicU32) -> bool {
    let arena = arena();
    blocks::around(arena, arena.offset_of(word)).is_some_and(|(at, _)| blocks::owner(arena, at) != Tag::FREE)
}

/// Makes it look as if somebody swept.
pub fn say_sweeping() {
    arena().header().sweeping.store(1, Ordering::SeqCst);
}

/// Wakes everybody, as after a death.
pub fn notify_all_sleepers() {
    park::notify_all_sleepers(arena());
}

/// What the first thread of the process in `slot` waits for, as an offset; 0 for nothing.
pub fn waits_for(slot: u32) -> u64 {
    arena().record(slot).waits_for.load(Ordering::SeqCst)
}

/// Where the slot lies in the memory, and how many bytes it has.
pub fn slot_place(slot: u32) -> (u64, u64) {
    (arena().offset_of(&raw const *arena().slot(slot)), size_of::<slots::Slot>() as u64)
}

/// Where the lock's word lies in the memory.
pub fn lock_place(lock: &Lock) -> u64 {
    arena().offset_of(lock.raw())
}

/// Looks for the function that a request names.
pub fn resolve(entry: u64, type_hash: u64) -> Result<()> {
    entrypoint::resolve(entry, type_hash).map(drop)
}

/// The request in a slot: entry, arguments' block, working directory's block, process object's id.
pub fn request(slot: u32) -> (u64, u64, u64, u64) {
    let slot = arena().slot(slot);
    let read = |word: &AtomicU64| word.load(Ordering::Acquire);
    (read(&slot.request.entry), read(&slot.request.args), read(&slot.request.cwd), read(&slot.process))
}

/// The block with the options of the request in a slot, or 0.
pub fn request_options(slot: u32) -> u64 {
    arena().slot(slot).request.options.load(Ordering::Acquire)
}

/// Has the child of `slot` say that it has its options, as far as its spawner can tell.
pub fn prepared(slot: u32) {
    if let Some((_, _, body)) = process_body::object_of(arena(), arena().slot(slot)) {
        process_body::tell(body, process_body::ready::APPLIED);
    }
}

/// Does as the child of a slot whose request is complete, up to its last act; this process has become its member.
pub fn live_through(slot: u32) {
    supervisor::child::live_through(arena(), slot);
}

/// The number of the process in a slot.
pub fn slot_pid(slot: u32) -> i32 {
    arena().slot(slot).pid.load(Ordering::Acquire)
}

/// Says that the child of a slot waits for descriptors at this socket.
pub fn say_listening(slot: u32, name: u32) {
    if let Some((_, _, body)) = process_body::object_of(arena(), arena().slot(slot)) {
        process_body::tell(body, process_body::ready::listening(name));
    }
}

/// Says that the spawner of the child of a slot cannot send descriptors.
pub fn say_withdrawn(slot: u32) {
    if let Some((_, _, body)) = process_body::object_of(arena(), arena().slot(slot)) {
        options::withdraw(body);
    }
}

/// Says that the process of a slot has this number.
pub fn say_pid(slot: u32, pid: i32) {
    arena().slot(slot).pid.store(pid, Ordering::SeqCst);
}

/// Decides, as the supervisor does when the child of a slot is dead, whether another one takes its place.
pub fn replace_child(slot: u32) -> bool {
    arena().slot(slot).replace_child()
}

/// Makes the number of the child of a slot known, as its spawner does before it returns.
pub fn make_known(slot: u32, incarnation: u32) -> Option<i32> {
    arena().slot(slot).make_known(incarnation)
}

/// Gives a slot that a test made a spare to a new process, as the supervisor does.
pub fn begin_incarnation(slot: u32, incarnation: u32) {
    arena().slot(slot).begin_incarnation(incarnation);
}

/// Whether the child of a slot waits for descriptors.
pub fn listens(slot: u32) -> bool {
    let body = process_body::object_of(arena(), arena().slot(slot)).map(|(_, _, body)| body);
    body.is_some_and(|body| process_body::ready::name(body.ready.load(Ordering::SeqCst)).is_some())
}

/// How a process with this id ended, as a word of `outcome.rs`, if it has; and whether its spawner has been told
/// what came of its options.
pub fn ending(process: u64) -> (Option<u32>, bool) {
    let object = arena().object(process as u32);
    let body: &process_body::ProcessBody = object.body();
    let told = [0, process_body::ready::APPLIED, process_body::ready::ENDED]
        .contains(&body.ready.load(Ordering::SeqCst));
    (body.is_done().then(|| body.ending.load(Ordering::Acquire)), told)
}

/// What still stands in a slot, its records, its bitmaps and the tags of all blocks that a recovered one has not.
/// The bitmaps are read bit by bit, not through the marks of their lines.
pub fn residue(slot: u32) -> Vec<String> {
    let (arena, mut found) = (arena(), Vec::new());
    let mut look = |what: &str, value: u64| {
        if value != 0 {
            found.push(format!("{what} = {value:#x}"));
        }
    };
    for id in arena.records_of(slot) {
        let record = arena.record(id);
        look("waits_for", record.waits_for.load(Ordering::Acquire));
        look("object_intent", record.object_intent.load(Ordering::Acquire));
        look("thread", record.thread.load(Ordering::Acquire) as u64);
        look("chunk", record.chunk.load(Ordering::Acquire));
        record.for_each_held(arena, |held| look("held", held.load(Ordering::Acquire)));
    }
    let (entry, args, cwd, process) = request(slot);
    look("entry", entry);
    look("args", args);
    look("cwd", cwd);
    look("options", request_options(slot));
    look("process", process);
    look("panic_text", arena.slot(slot).panic_text.load(Ordering::Acquire));
    look("early_signals", u64::from(arena.slot(slot).early_signals()));
    let objects = arena.header().objects_used.load(Ordering::Acquire);
    arena
        .held_objects(slot)
        .for_each_of_all(objects, |object, _| look("holds object", u64::from(object) + 1));
    arena.touched_spans(slot).for_each_of_all(u32::MAX, |span, _| look("touched span", u64::from(span) + 1));
    let owner = Tag::process(slot);
    let owned = census().blocks.into_iter().filter(|&(_, tag)| Tag(tag).same_owner(owner));
    owned.for_each(|(at, _)| look("owns block", at));
    for span in arena.spans_in_use() {
        match arena.span_use(span) {
            Use::Init { by } | Use::Small { by, .. } | Use::Leaving { by, .. } if by == slot => {
                look("owns span", u64::from(span) + 1)
            }
            Use::Cont { by, head } if by == slot && head == span => {
                look("unfinished run", u64::from(span) + 1)
            }
            _ => {}
        }
    }
    found
}

/// What the indexes hide: bits in lines without a mark, blocks in spans that their owner has not noted, and what
/// lies above the hints of how much was ever used. Read from the tags and words themselves.
pub fn hidden() -> Vec<String> {
    let (arena, header, mut found) = (arena(), arena().header(), Vec::new());
    for slot in 0..header.slots_used.load(Ordering::Acquire).min(arena.layout.slots) {
        let mut look = |what: &str, bit: u32, marked: bool| {
            if !marked {
                found.push(format!("{what} {bit} of slot {slot} is set in a line without a mark"));
            }
        };
        let objects = header.objects_used.load(Ordering::Acquire);
        arena.held_objects(slot).for_each_of_all(objects, |object, marked| look("object", object, marked));
        let spans = header.spans_used.load(Ordering::Acquire);
        arena.touched_spans(slot).for_each_of_all(spans, |span, marked| look("span", span, marked));
    }
    for (at, tag) in census().blocks {
        let span = arena.layout.span_of(at).expect("a block lies in a span");
        let (process, object) = (Tag(tag).process_slot(), Tag(tag).object_index());
        let noted = process.is_none_or(|slot| arena.touched_spans(slot).has(span))
            && object.is_none_or(|index| arena.object(index).may_be_in(span));
        if !noted {
            found.push(format!("block {at:#x} lies in a span that its owner {tag:#x} has not noted"));
        }
    }
    let beyond = |used: u32, all: u32| used.min(all)..used.saturating_add(BEYOND).min(all);
    for span in beyond(header.spans_used.load(Ordering::Acquire), arena.layout.spans) {
        if arena.span_use(span) != Use::Free {
            found.push(format!("span {span} is in use and lies above the hint"));
        }
    }
    for index in beyond(header.objects_used.load(Ordering::Acquire), arena.layout.objects) {
        if !arena.object(index).is_free() {
            found.push(format!("object {index} is in use and lies above the hint"));
        }
    }
    found
}

/// How far above a hint [`hidden`] looks.
const BEYOND: u32 = 1024;

/// The lock's word.
pub fn lock_word(lock: &Lock) -> u64 {
    lock.word()
}

/// Takes the lock of one end of a queue, as a process in the middle of an operation has it.
pub fn occupy<T>(queue: &Queue<T>, end: End) -> Occupied {
    queue.ring().occupy(end).expect("the tests are members")
}

/// The lock's word of one end of a queue.
pub fn queue_lock_word<T>(queue: &Queue<T>, end: End) -> u64 {
    queue.ring().lock_word(end)
}

/// The process that has the lock of one end of a queue.
pub fn queue_occupant<T>(queue: &Queue<T>, end: End) -> Option<i32> {
    let record = word::owner(queue_lock_word(queue, end)).checked_sub(1)?;
    let slot = arena().slot_of_record(record)?;
    Some(arena().slot(slot).pid.load(Ordering::Acquire))
}

/// Where one end of a queue stands: the offsets of its segment and of its record.
pub fn queue_place<T>(queue: &Queue<T>, end: End) -> (u64, u64) {
    queue.ring().place(end)
}

/// The blocks that belong to a queue by their tags, and those that can be reached from its control lines:
/// the same, when nothing is lost.
pub fn queue_blocks<T>(queue: &Queue<T>) -> (Vec<u64>, Vec<u64>) {
    let ring = queue.ring();
    let owned = census().blocks.into_iter().filter(|&(_, tag)| Tag(tag).same_owner(ring.owner()));
    (owned.map(|(at, _)| at).collect(), ring.reachable())
}

/// At how many records recovery would look for blocks that a dead consumer was taking from a queue.
pub fn queue_claim<T>(queue: &Queue<T>) -> u64 {
    queue.ring().claim()
}

/// How many bytes the block at `at` has, header included.
pub fn block_bytes(at: u64) -> u64 {
    blocks::around(arena(), at).map_or(0, |(_, bytes)| bytes)
}

/// The thread that a semaphore's next permit is promised to, or 0.
pub fn semaphore_heir(semaphore: &Semaphore) -> u32 {
    semaphore.heir()
}

/// The word on which a condition variable's waiters sleep.
pub fn condvar_events(condvar: &Condvar) -> u32 {
    condvar.events().load(Ordering::SeqCst)
}

/// Whether anybody reads under a read-write lock.
pub fn has_readers<T>(lock: &RwLock<T>) -> bool {
    lock.has_readers()
}

/// Notes that this process has a handle to an object, as if it had been sent one.
pub fn hold(handle: &impl HasHandle) {
    arena().held_objects(member::slot()).set(handle.object_index());
}

/// Has this process's count of its handles to an object be another one. Returns what it was.
pub fn say_handles(handle: &impl HasHandle, count: u32) -> u32 {
    handle::counted(handle.object_index()).swap(count, Ordering::SeqCst)
}

/// As [`say_handles`], for the handles to a task.
pub fn say_task_handles<R>(task: &crate::pool::Task<R>, count: u32) -> u32 {
    task.handles().swap(count, Ordering::SeqCst)
}

/// Has a place in the table of objects, which is free, be used only once more.
pub fn wear_out(object: u32) {
    arena().object(object).wear_out();
}

/// Tells barriers that this process does not come, as a child does whose arguments cannot be read.
pub fn say_that_it_does_not_come() {
    recovery::tell_meetings(arena(), member::slot(), false);
}

/// Gives back every permit that this process holds.
pub fn give_permits_back(semaphore: &Semaphore) {
    semaphore.return_permits_of(member::slot());
}

/// What is wrong with a dict: blocks of its that it cannot reach, or that are not its, and counts that are off.
pub fn faults_of_dict<K, V>(dict: &crate::Dict<K, V>) -> Vec<String> {
    let ((mut reached, counts), object) = (dict.map().inventory(), dict.id().index());
    let mut faults = faults_of_blocks(object, &mut reached);
    for (part, [live, there, used, not_empty]) in counts.into_iter().enumerate() {
        if live != there || used != not_empty {
            faults.push(format!("part {part} counts {live} and {used}; there are {there} and {not_empty}"));
        }
    }
    faults
}

/// In which part of a dict a key belongs.
pub fn part_of_dict<K: Message, V>(dict: &crate::Dict<K, V>, key: &K) -> usize {
    crate::codec::encoding::with_bytes(key, |bytes, _| dict.map().part_index(bytes)).expect("a key")
}

/// Whether a part of a dict has no room for one more word; `None` when it has no table.
pub fn is_full_part_of_dict<K, V>(dict: &crate::Dict<K, V>, part: usize) -> Option<bool> {
    let [_, _, used, _] = dict.map().inventory().1[part];
    dict.map().table_len(part).map(|len| 4 * (used + 1) > 3 * len)
}

/// Whether somebody holds the lock of the part in which a key belongs.
pub fn is_locked_part_of_dict<K: Message, V>(dict: &crate::Dict<K, V>, key: &K) -> bool {
    dict.map().is_locked(part_of_dict(dict, key))
}

/// What is wrong with a list: as [`faults_of_dict`].
pub fn faults_of_list<T>(list: &crate::state::List<T>) -> Vec<String> {
    let (object, (mut reached, beyond)) = list.inventory();
    let mut faults = faults_of_blocks(object, &mut reached);
    if beyond != 0 {
        faults.push(format!("{beyond} words beyond the ends are not empty"));
    }
    faults
}

fn faults_of_blocks(object: u32, reached: &mut [u64]) -> Vec<String> {
    let owner = Tag::object(object);
    let owned = census().blocks.into_iter().filter(|&(_, tag)| Tag(tag).same_owner(owner));
    let mut owned: Vec<u64> = owned.map(|(at, _)| at).collect();
    owned.sort_unstable();
    reached.sort_unstable();
    let lost = owned.iter().filter(|at| reached.binary_search(at).is_err());
    let lost = lost.map(|at| format!("block {at:#x} is owned and not reached"));
    let foreign = reached.iter().filter(|at| owned.binary_search(at).is_err());
    lost.chain(foreign.map(|at| format!("block {at:#x} is reached and not owned"))).collect()
}

/// Encodes a value into a block of this process.
pub fn pack<T: Message>(value: &T) -> Result<u64> {
    codec::pack(value)
}

/// Decodes the value in a block.
pub fn unpack<T: Message>(block: u64) -> Result<T> {
    codec::unpack(arena(), block)
}

/// Takes a block of this process without filling it.
pub fn reserve(bytes: u64) -> Result<u64> {
    heap::allocate(arena(), member::slot(), bytes)
}

/// Writes over the memory of a block if it is free, as whoever takes it next may do.
pub fn write_over(block: u64) {
    let arena = arena();
    if blocks::owner(arena, block) == Tag::FREE
        && let Some((at, bytes)) = blocks::around(arena, block)
    {
        // SAFETY: the block is free, and the tests allocate nothing meanwhile.
        unsafe { arena.write(at, &vec![0xff; bytes as usize]) };
    }
}

/// Frees a block of this process.
pub fn free(block: u64) {
    blocks::free(arena(), member::slot(), block, Tag::process(member::slot()));
}

/// Gives back what is kept, and spans that are empty.
pub fn trim() {
    heap::trim(arena(), member::slot());
}

/// Hands a block of this process to the process of `slot`.
pub fn hand_over(block: u64, slot: u32) -> bool {
    blocks::hand_over(arena(), block, Tag::process(member::slot()), Tag::process(slot))
}

/// What there is in the arena.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Objects that are not free.
    pub objects: u32,
    /// Objects that are being made or freed.
    pub unfinished_objects: u32,
    /// Blocks that belong to a process or an object, as (offset, tag).
    pub blocks: Vec<(u64, u32)>,
    /// Spans that are neither free nor a small span: heads of runs, parts, unfinished ones.
    pub large_spans: u32,
    /// Small spans, by the slot that owns them; of [`NOBODY`]'s only what is not empty.
    pub small_spans: Vec<(u32, u32)>,
    /// Extra records that belong to a process.
    pub records: u32,
    /// (slot, object) for each object that a process holds.
    pub holdings: Vec<(u32, u32)>,
}

/// How many objects are not free.
pub fn objects() -> u32 {
    let used = arena().header().objects_used.load(Ordering::Acquire).min(arena().layout.objects);
    (0..used).filter(|&index| !arena().object(index).is_free()).count() as u32
}

/// Counts everything.
pub fn census() -> Census {
    let arena = arena();
    let header = arena.header();
    let mut census = Census::default();
    let objects = header.objects_used.load(Ordering::Acquire).min(arena.layout.objects);
    for index in (0..objects).filter(|&index| !arena.object(index).is_free()) {
        census.objects += 1;
        census.unfinished_objects += u32::from(arena.object(index).live_id(index).is_none());
    }
    for span in arena.spans_in_use() {
        match arena.span_use(span) {
            Use::Free => {}
            Use::Small { by, class } => {
                let blocks_before = census.blocks.len();
                for index in 0..blocks_in(class) {
                    let tag = arena.tag(span, index).load(Ordering::Acquire);
                    if tag != 0 {
                        census.blocks.push((arena.block_offset(span, class, index), tag));
                    }
                }
                if by != blocks::NOBODY || census.blocks.len() > blocks_before {
                    census.small_spans.push((span, by));
                }
            }
            // Free runs that are kept.
            Use::Head { tag: Tag::FREE, .. } => {}
            Use::Cont { head, .. } if is_kept(arena, head) => {}
            Use::Head { tag, .. } => {
                census.large_spans += 1;
                census.blocks.push((arena.span_offset(span), tag.0));
            }
            _ => census.large_spans += 1,
        }
    }
    // What lies above the hint must be free too.
    let extras = header.records_used.load(Ordering::Acquire).saturating_add(64);
    census.records = (0..extras.min(arena.layout.extra_records))
        .filter(|&r| arena.record_owner(r).load(Ordering::Acquire) != 0)
        .count() as u32;
    for slot in 0..header.slots_used.load(Ordering::Acquire).min(arena.layout.slots) {
        arena.held_objects(slot).for_each_of_all(objects, |object, _| census.holdings.push((slot, object)));
    }
    census
}

fn is_kept(arena: &Arena, head: u32) -> bool {
    head < arena.layout.spans && matches!(arena.span_use(head), Use::Head { tag: Tag::FREE, .. })
}

/// Spans of free runs that are kept, counted.
pub fn kept_spans() -> u32 {
    let arena = arena();
    let kept = arena.spans_in_use().map(|span| match arena.span_use(span) {
        Use::Head { tag: Tag::FREE, spans } => spans,
        _ => 0,
    });
    kept.sum()
}

/// Has the hint say that no more runs should be kept.
pub fn keep_no_more() {
    arena().header().kept_spans.store(blocks::kept_most(arena()), Ordering::Relaxed);
}

/// Gives the kept runs back, in the name of this process.
pub fn release_kept() -> u32 {
    blocks::release_kept(arena(), member::slot(), u32::MAX)
}

/// Whether the library takes process `pid` for dead.
pub fn looks_dead(pid: i32) -> bool {
    process::is_dead(pid)
}

/// Whether the library sees that process `pid` maps a memory file.
pub fn maps_memfd(pid: i32, name: &str, inode: u64) -> Option<bool> {
    process::maps_memfd(pid, name, inode)
}

/// The memory limit by these contents of `/proc/self/cgroup` and `/proc/self/mountinfo`.
pub fn memory_limit_by(groups: &[u8], mounts: &[u8]) -> Option<u64> {
    crate::os::cgroup::memory_limit_by(groups, mounts)
}
