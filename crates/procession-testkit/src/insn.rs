//! The first bytes of an instruction, and what the stepper derives from them.
//!
//! The answers err on the safe side. An instruction that is unknown here counts as an instruction that may
//! store. That costs a comparison of the memory and nothing else. Stacks are not in the memory under test, so
//! `push`, `call` and stores at a fixed distance from the stack pointer do not count.

/// Eight bytes of code, the first in the lowest byte.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Insn(pub(crate) u64);

impl Insn {
    /// The value of memory that cannot be read.
    pub(crate) const NONE: Insn = Insn(u64::MAX);
}

#[cfg(target_arch = "x86_64")]
impl Insn {
    /// Reports whether the instruction is a system call. Only a system call can sleep.
    pub(crate) fn is_syscall(self) -> bool {
        self.0 & 0xffff == 0x050f
    }

    /// Reports whether the instruction is an atomic read-modify-write or exchange.
    pub(crate) fn is_atomic(self) -> bool {
        let code = self.0.to_le_bytes();
        let locked =
            code.iter().take_while(|byte| is_prefix(**byte) || **byte == 0xf0).any(|&byte| byte == 0xf0);
        let Some(prefixes) = code[..5].iter().position(|byte| !is_prefix(*byte)) else { return locked };
        let rex = usize::from(code[prefixes] & 0xf0 == 0x40);
        let [op, operand, ..] = code[prefixes + rex..] else { return locked };
        locked || matches!(op, 0x86 | 0x87) && in_memory(operand)
    }

    /// Reports whether the instruction can write to memory other than the stack.
    pub(crate) fn may_store(self) -> bool {
        let code = self.0.to_le_bytes();
        let Some(prefixes) = code[..5].iter().position(|byte| !is_prefix(*byte)) else { return true };
        let rex = usize::from(code[prefixes] & 0xf0 == 0x40);
        // The highest bits of the numbers of base and index.
        let high = if rex == 1 { code[prefixes] & 0b11 } else { 0 };
        let [op, next, third, fourth, ..] = code[prefixes + rex..] else { return true };
        match op {
            0x0f => extended_may_store(next, Operand { byte: third, scaled: fourth, high }),
            _ => plain_may_store(op, Operand { byte: next, scaled: third, high }),
        }
    }
}

/// The operand of an instruction.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Operand {
    byte: u8,
    /// The byte after `byte`, which may name the registers of an address.
    scaled: u8,
    /// The highest bits of the registers' numbers.
    high: u8,
}

#[cfg(target_arch = "x86_64")]
impl Operand {
    /// Reports whether the operand names memory other than the stack.
    fn is_elsewhere(self) -> bool {
        let Operand { byte, scaled, high } = self;
        let is_by_stack_pointer = byte & 7 == 4 && scaled & 0x3f == 0x24 && high == 0;
        in_memory(byte) && !is_by_stack_pointer
    }
}

/// Matches prefixes that change an operand's size or segment. `lock` is not among them, because an
/// instruction with that prefix stores.
#[cfg(target_arch = "x86_64")]
fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x66 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65)
}

/// Reports whether the operand byte names memory, not a register.
#[cfg(target_arch = "x86_64")]
fn in_memory(operand: u8) -> bool {
    operand < 0xc0
}

#[cfg(target_arch = "x86_64")]
fn plain_may_store(op: u8, operand: Operand) -> bool {
    let kind = operand.byte >> 3 & 7;
    match op {
        0x38..=0x3d => false,                                // cmp
        0x00..=0x3f if op & 7 < 2 => operand.is_elsewhere(), // add, or, adc, sbb, and, sub, xor
        0x00..=0x3f => op & 7 > 5,
        0x50..=0x5f | 0x63 | 0x68..=0x6b => false, // push, pop, movsxd, imul
        0x70..=0x7f | 0xe8 | 0xe9 | 0xeb | 0xc2 | 0xc3 | 0xc9 => false, // jumps, calls, leave
        0x80 | 0x81 | 0x83 => kind != 7 && operand.is_elsewhere(), // arithmetic; 7 is cmp
        0x84 | 0x85 | 0xa8 | 0xa9 => false,        // test
        0x86..=0x89 | 0xc0 | 0xc1 | 0xc6 | 0xc7 | 0xd0..=0xd3 | 0xfe => operand.is_elsewhere(),
        0x8a | 0x8b | 0x8d => false,        // load, lea
        0x90..=0x99 | 0xb0..=0xbf => false, // exchange and set registers
        0xf6 | 0xf7 => matches!(kind, 2 | 3) && operand.is_elsewhere(), // not, neg; else test, mul, div
        0xff => matches!(kind, 0 | 1) && operand.is_elsewhere(), // inc, dec; else call, jmp, push
        _ => true,
    }
}

#[cfg(target_arch = "x86_64")]
fn extended_may_store(op: u8, operand: Operand) -> bool {
    match op {
        0x0d | 0x18..=0x1f => false,                             // hints
        0x10 | 0x12 | 0x14..=0x16 | 0x28 | 0x6e | 0x6f => false, // vector loads
        0x11 | 0x13 | 0x17 | 0x29 | 0x7e | 0x7f | 0xd6 | 0xe7 => operand.is_elsewhere(), // vector stores
        0x54..=0x5f | 0x60..=0x6d | 0x70 | 0x74..=0x76 | 0xc6 => false, // vector arithmetic
        0xd4 | 0xd7 | 0xdb | 0xeb | 0xef | 0xf8..=0xfe => false,
        0x40..=0x4f | 0x80..=0x8f => false, // conditional moves and jumps
        0x90..=0x9f => operand.is_elsewhere(), // setcc
        0xa3 | 0xaf | 0xb6..=0xb8 | 0xbc..=0xbf => false, // bt, imul, extending loads, bit scans
        0xb0 | 0xb1 | 0xc0 | 0xc1 | 0xae => operand.is_elsewhere(), // cmpxchg, xadd, fences
        _ => true,
    }
}

#[cfg(target_arch = "aarch64")]
impl Insn {
    /// Reports whether the instruction is a system call. Only a system call can sleep.
    pub(crate) fn is_syscall(self) -> bool {
        self.0 as u32 == 0xd400_0001
    }

    /// Reports whether the instruction is an exclusive load or store, or an atomic instruction.
    pub(crate) fn is_atomic(self) -> bool {
        self.0 & 0x3f00_0000 == 0x0800_0000 || self.0 & 0x3b20_0c00 == 0x3820_0000
    }

    /// Reports whether the instruction may store. Loads and stores are one class of encodings.
    pub(crate) fn may_store(self) -> bool {
        self.is_syscall() || self.0 & 0x0a00_0000 == 0x0800_0000
    }
}

#[cfg(test)]
mod tests {
    #![allow(unsafe_code, reason = "a memory to write to")]

    use std::collections::BTreeMap;
    use std::fmt::Write;
    use std::ptr;

    use crate::gate::Gate;
    use crate::mapping::Mapping;
    use crate::pin::Pin;
    use crate::snapshot::Snapshot;
    use crate::tracee::{Stop, Tracee};

    const LEN: usize = 1 << 16;

    fn memory() -> Mapping {
        // SAFETY: a memfd and a fresh mapping of it, kept for the rest of the test.
        unsafe {
            let fd = libc::memfd_create(c"insn".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0 && libc::ftruncate(fd, LEN as i64) == 0);
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let addr = libc::mmap(ptr::null_mut(), LEN, access, libc::MAP_SHARED, fd, 0);
            assert!(addr != libc::MAP_FAILED);
            Mapping { addr: addr.cast(), len: LEN, fd }
        }
    }

    /// Writes in all the ways that the standard library uses.
    fn scribble(memory: Mapping) {
        // SAFETY: only this child writes there.
        let bytes = unsafe { std::slice::from_raw_parts_mut(memory.addr, LEN) };
        let mut text = String::new();
        for n in 1..8u32 {
            write!(text, "{n} {:?} {};", f64::from(n) / 3.0, u64::MAX / u64::from(n)).unwrap();
        }
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes[4000..4100].fill(7);
        bytes[4050..4070].sort_by_key(|byte| u32::from(*byte).wrapping_mul(0x9e37));
        bytes.copy_within(0..100, 9001);
        let words: BTreeMap<&[u8], usize> =
            text.as_bytes().split(|byte| *byte == b' ').enumerate().map(|(n, word)| (word, n)).collect();
        for (n, value) in words.into_values().enumerate() {
            bytes[5000 + 8 * n..][..8].copy_from_slice(&value.to_le_bytes());
            bytes[9000 + n] ^= value as u8;
            bytes[9100 + n] = bytes[9100 + n].rotate_left(3).wrapping_sub(1);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn stores_on_the_stack_do_not_count() {
        let may_store = |code: &[u8]| {
            let mut bytes = [0; 8];
            bytes[..code.len()].copy_from_slice(code);
            super::Insn(u64::from_le_bytes(bytes)).may_store()
        };
        assert!(!may_store(&[0x48, 0x89, 0x44, 0x24, 0x10]), "mov %rax,0x10(%rsp)");
        assert!(!may_store(&[0xc7, 0x84, 0x24, 0, 1, 0, 0]), "movl ..,0x100(%rsp)");
        assert!(!may_store(&[0x0f, 0x11, 0x44, 0x24, 0x20]), "movups %xmm0,0x20(%rsp)");
        assert!(!may_store(&[0x0f, 0x94, 0x04, 0x24]), "sete (%rsp)");
        assert!(may_store(&[0x49, 0x89, 0x04, 0x24]), "mov %rax,(%r12)");
        assert!(may_store(&[0x48, 0x89, 0x04, 0xcc]), "mov %rax,(%rsp,%rcx,8)");
        assert!(may_store(&[0x4a, 0x89, 0x04, 0x24]), "mov %rax,(%rsp,%r12,1)");
        assert!(may_store(&[0x41, 0x0f, 0x11, 0x04, 0x24]), "movups %xmm0,(%r12)");
        assert!(may_store(&[0xf0, 0x48, 0x0f, 0xb1, 0x0c, 0x24]), "lock: always checked");
        assert!(may_store(&[0x48, 0x89, 0x07]), "mov %rax,(%rdi)");
        assert!(may_store(&[0xc5, 0xfc, 0x11, 0x44, 0x24, 0x20]), "an unknown instruction");
    }

    /// No store may be missed, because the stepper would miss a state.
    #[test]
    fn no_store_is_missed() {
        let _pin = Pin::here();
        let memory = memory();
        memory.inherit();
        let mut snapshot = Snapshot::take(memory);
        let mut victim = Some(|gate: &Gate| {
            gate.begin();
            scribble(memory);
            gate.end();
        });
        let mut tracee = Tracee::launch(&mut victim).unwrap_or_else(|(_, why)| panic!("{why}"));
        let (mut steps, mut changes, mut looks) = (0u32, 0u32, 0u32);
        while !tracee.ended() {
            let insn = tracee.next_insn();
            tracee.step();
            assert!(matches!(tracee.settle(), Stop::Stepped));
            let changed = snapshot.renew();
            assert!(insn.may_store() || !changed, "overlooked: {:x?}", insn.0.to_le_bytes());
            steps += 1;
            changes += u32::from(changed);
            looks += u32::from(insn.may_store());
        }
        println!("{steps} steps, {looks} that may store, {changes} that did");
        assert!(changes > 40 && looks < steps);
    }
}
