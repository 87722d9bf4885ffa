//! How much each process and object uses, for the errors that report a full arena. These functions examine
//! the whole arena, so they are called only for such an error.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::Hash;
use std::sync::atomic::Ordering;

use super::Arena;
use super::blocks::{Tag, Use};
use super::classes::{CLASSES, blocks_in};
use super::layout::SPAN;

/// How many holders are named. One line sums up the others.
const NAMED: usize = 7;

/// The memory of one holder.
#[derive(Clone, Copy, Default)]
struct Held {
    bytes: u64,
    blocks: u64,
}

/// The memory of all holders, and the free memory.
#[derive(Default)]
struct Account {
    holders: HashMap<u32, Held>,
    /// Bytes that are free in spans of small blocks, and in kept runs.
    free_blocks: u64,
    free_spans: u64,
    longest_spans: u64,
}

/// Returns the holders of the memory, the largest first, one per line.
pub(crate) fn of_memory(arena: &Arena) -> String {
    let account = Account::take(arena);
    let mut rows: Vec<(u32, Held)> = account.holders.into_iter().collect();
    rows.sort_unstable_by_key(|(tag, held)| (std::cmp::Reverse(held.bytes), *tag));
    let mut text = String::new();
    for (tag, held) in rows.iter().take(NAMED) {
        line(&mut text, held.bytes, &format!("{}, {} blocks", holder(arena, Tag(*tag)), held.blocks));
    }
    if rows.len() > NAMED {
        let rest = rows[NAMED..].iter().map(|(_, held)| held.bytes).sum();
        line(&mut text, rest, &format!("{} others", rows.len() - NAMED));
    }
    line(&mut text, account.free_blocks, "free, in spans that are in use");
    let longest = size(SPAN * account.longest_spans);
    line(&mut text, SPAN * account.free_spans, &format!("free, at most {longest} of it in one piece"));
    text
}

/// Returns how many objects of each kind there are, and how many objects each process holds. The largest
/// numbers come first.
pub(crate) fn of_objects(arena: &Arena) -> String {
    let used = arena.header().objects_used.load(Ordering::Acquire).min(arena.layout.objects);
    let kinds = counted((0..used).filter_map(|index| arena.object(index).kind()).map(|kind| kind.name()));
    let slots = arena.header().slots_used.load(Ordering::Acquire).min(arena.layout.slots);
    let mut holders = Vec::new();
    for slot in 0..slots {
        arena.held_objects(slot).for_each(|_| holders.push(slot));
    }
    let kinds = kinds.iter().take(NAMED).map(|(kind, count)| format!("{kind}: {count}"));
    let holders = counted(holders.into_iter());
    let holders = holders.iter().take(NAMED);
    let holders = holders.map(|(slot, count)| format!("{} holds {count}", arena.describe_process(*slot)));
    kinds.chain(holders).fold(String::new(), |text, line| text + "\n  " + &line)
}

/// Returns how many extra records each process has. The largest numbers come first.
pub(crate) fn of_records(arena: &Arena) -> String {
    let owners =
        (0..arena.layout.extra_records).map(|extra| arena.record_owner(extra).load(Ordering::Acquire));
    let owners = counted(owners.filter_map(|owner| owner.checked_sub(1)));
    let lines = owners.iter().take(NAMED);
    let lines = lines.map(|(slot, count)| format!("{} has {count}", arena.describe_process(*slot)));
    lines.fold(String::new(), |text, line| text + "\n  " + &line)
}

fn counted<T: Hash + Eq + Ord + Copy>(all: impl Iterator<Item = T>) -> Vec<(T, u64)> {
    let mut counts = HashMap::new();
    all.for_each(|one| *counts.entry(one).or_insert(0) += 1);
    let mut counts: Vec<(T, u64)> = counts.into_iter().collect();
    counts.sort_unstable_by_key(|(one, count)| (std::cmp::Reverse(*count), *one));
    counts
}

impl Account {
    fn take(arena: &Arena) -> Account {
        let (mut account, mut free) = (Account::default(), 0);
        for span in 0..arena.layout.spans {
            let used = arena.span_use(span);
            free = if used == Use::Free { free + 1 } else { 0 };
            account.free_spans += u64::from(used == Use::Free);
            account.longest_spans = account.longest_spans.max(free);
            match used {
                Use::Small { class, .. } => account.blocks_of(arena, span, class),
                Use::Head { tag, spans } => account.add(tag, SPAN * u64::from(spans)),
                _ => {}
            }
        }
        account
    }

    fn blocks_of(&mut self, arena: &Arena, span: u32, class: u8) {
        for index in 0..blocks_in(class) {
            let tag = Tag(arena.tag(span, index).load(Ordering::Relaxed));
            self.add(tag, CLASSES[class as usize].into());
        }
    }

    fn add(&mut self, tag: Tag, bytes: u64) {
        if tag == Tag::FREE {
            self.free_blocks += bytes;
            return;
        }
        let held = self.holders.entry(tag.with_handles(false).0).or_default();
        held.bytes += bytes;
        held.blocks += 1;
    }
}

/// Describes the owner that a tag names.
fn holder(arena: &Arena, tag: Tag) -> String {
    match tag.object_index() {
        Some(index) if index < arena.layout.objects => {
            let object = arena.object(index);
            let kind = object.kind().map_or("object", |kind| kind.name());
            match object.name() {
                name if name.is_empty() => format!("{kind} without a name"),
                name => format!("{kind} `{name}`"),
            }
        }
        _ => match tag.process_slot() {
            Some(slot) if slot < arena.layout.slots => format!("process {}", arena.describe_process(slot)),
            _ => "unknown".into(),
        },
    }
}

fn line(text: &mut String, bytes: u64, what: &str) {
    if bytes > 0 {
        let _ = write!(text, "\n  {:>10}  {what}", size(bytes));
    }
}

fn size(bytes: u64) -> String {
    if bytes < 10 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}
