//! [`ChunkSizer`]: how many items a chunk should have, found by measuring earlier chunks.

/// The time that a chunk should take. It is long compared with the cost of sending a chunk to a worker. It is
/// short enough that no worker waits long for the last chunk.
const TARGET_NS: f64 = 400_000.0;
/// The next chunk may have at most this many times as many items as the largest measured chunk.
const GROWTH: u32 = 8;

/// How long the items of a chunk took: the number of items, and the time in ns. `None` if the time was not
/// measured.
pub(super) struct Measured(pub(super) Option<(u32, u64)>);

#[derive(Default)]
pub(super) struct ChunkSizer {
    ns_an_item: f64,
    largest: u32,
}

impl ChunkSizer {
    pub(super) fn learn(&mut self, Measured(measured): Measured) {
        let Some((items @ 1.., took_ns)) = measured else { return };
        let now = (took_ns.max(1) as f64) / f64::from(items);
        let weight = if self.largest < items { 0.7 } else { 0.3 };
        self.ns_an_item =
            if self.largest == 0 { now } else { (1.0 - weight) * self.ns_an_item + weight * now };
        self.largest = self.largest.max(items);
    }

    pub(super) fn size(&self) -> usize {
        if self.largest == 0 {
            return 1;
        }
        let ideal = (TARGET_NS / self.ns_an_item).max(1.0) as usize;
        ideal.min(self.largest as usize * GROWTH as usize)
    }
}
