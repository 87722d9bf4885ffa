//! The marks of a pass of the collector: which objects it has found reachable so far.

/// The marks of one pass.
pub(super) struct Marks {
    marked: Vec<bool>,
    /// Pairs of objects. A block of the first object carries a handle to the second object.
    carried: Vec<(u32, u32)>,
}

impl Marks {
    /// Marks every object below `used` except the candidates.
    pub(super) fn new(used: u32, candidates: impl Iterator<Item = u32>) -> Marks {
        let mut marked = vec![true; used as usize];
        candidates.for_each(|index| marked[index as usize] = false);
        Marks { marked, carried: Vec::new() }
    }

    pub(super) fn mark(&mut self, object: u32) {
        if let Some(mark) = self.marked.get_mut(object as usize) {
            *mark = true;
        }
    }

    pub(super) fn has(&self, object: u32) -> bool {
        self.marked.get(object as usize).is_none_or(|marked| *marked)
    }

    /// Notes that a block of `owner` carries a handle to `object`.
    pub(super) fn note(&mut self, owner: u32, object: u32) {
        if (owner as usize) < self.marked.len() {
            self.carried.push((owner, object));
        } else {
            // The owner was created after the pass began, and the block belonged to a process at that time.
            // So the object counts as held.
            self.mark(object);
        }
    }

    /// Marks the objects that blocks of marked objects carry, then the objects that those objects' blocks
    /// carry, and so on.
    pub(super) fn spread(&mut self) {
        self.carried.sort_unstable();
        let mut fresh: Vec<u32> = (0..self.marked.len() as u32).filter(|&index| self.has(index)).collect();
        while let Some(owner) = fresh.pop() {
            let from = self.carried.partition_point(|&(other, _)| other < owner);
            let of_owner = self.carried[from..].iter().take_while(|&&(other, _)| other == owner);
            for &(_, object) in of_owner {
                if !self.marked.get(object as usize).copied().unwrap_or(true) {
                    self.marked[object as usize] = true;
                    fresh.push(object);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_marked_carry_is_marked() {
        let mut marks = Marks::new(5, [1, 2, 3, 4].into_iter());
        marks.note(0, 1);
        marks.note(1, 2);
        marks.note(3, 4);
        marks.note(4, 3);
        marks.spread();
        assert_eq!([0, 1, 2, 3, 4].map(|index| marks.has(index)), [true, true, true, false, false]);
    }

    #[test]
    fn an_object_that_is_younger_than_the_pass_keeps_what_it_carries() {
        let mut marks = Marks::new(2, [1].into_iter());
        marks.note(7, 1);
        marks.spread();
        assert!(marks.has(1) && marks.has(7));
    }
}
