//! [`Tag`]: the word that names a block's owner.

/// The owner of a block, and whether the block carries handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) u32);

impl Tag {
    pub(crate) const FREE: Tag = Tag(0);
    const PROCESS: u32 = 1 << 28;
    const OBJECT: u32 = 2 << 28;
    const HANDLES: u32 = 1 << 27;
    const INDEX: u32 = (1 << 20) - 1;

    pub(crate) fn process(slot: u32) -> Tag {
        Tag(Tag::PROCESS | slot)
    }

    pub(crate) fn object(index: u32) -> Tag {
        Tag(Tag::OBJECT | index)
    }

    /// Returns the tag of the same owner, for a block that does or does not carry handles.
    pub(crate) fn with_handles(self, yes: bool) -> Tag {
        if yes { Tag(self.0 | Tag::HANDLES) } else { Tag(self.0 & !Tag::HANDLES) }
    }

    pub(crate) fn has_handles(self) -> bool {
        self.0 & Tag::HANDLES != 0
    }

    /// Returns whether both tags name the same owner.
    pub(crate) fn same_owner(self, other: Tag) -> bool {
        (self.0 ^ other.0) & !Tag::HANDLES == 0
    }

    /// Returns the slot of the process that owns the block, if a process does.
    pub(crate) fn process_slot(self) -> Option<u32> {
        (self.0 & 7 << 28 == Tag::PROCESS).then_some(self.0 & Tag::INDEX)
    }

    /// Returns the object that owns the block, if an object does.
    pub(crate) fn object_index(self) -> Option<u32> {
        (self.0 & 7 << 28 == Tag::OBJECT).then_some(self.0 & Tag::INDEX)
    }
}
