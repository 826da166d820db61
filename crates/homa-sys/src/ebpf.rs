//! Programs of the kernel's extended BPF, their maps, and the link that binds one to a network
//! interface. Everything goes with its descriptors, also when the process is killed.

use crate::call::{check, check_fd};
use std::ffi::{CStr, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Commands of `bpf(2)` (`linux/bpf.h`).
const BPF_MAP_CREATE: c_int = 0;
const BPF_MAP_UPDATE_ELEM: c_int = 2;
const BPF_MAP_DELETE_ELEM: c_int = 3;
const BPF_PROG_LOAD: c_int = 5;
const BPF_LINK_CREATE: c_int = 28;

const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_XDP: u32 = 6;
/// Attach type of a program at an interface.
const BPF_XDP: u32 = 37;
/// The program knows that packets may lie in several buffers.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
/// As this project is licensed; the program calls nothing that is for GPL programs only.
const LICENSE: &CStr = c"MIT OR Apache-2.0";

/// An instruction (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u8,
    /// Destination in the lower four bits, source in the upper ones.
    registers: u8,
    offset: i16,
    operand: i32,
}

/// A register: 0 has results, 1 to 5 arguments, 6 to 9 survive calls, 10 is the end of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u8);

/// Bytes that an instruction loads or stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Byte,
    Half,
    Word,
}

impl Size {
    fn code(self) -> u8 {
        match self {
            Self::Byte => 0x10,
            Self::Half => 0x08,
            Self::Word => 0x00,
        }
    }
}

/// A comparison, by the code of its jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum If {
    Equal,
    Unequal,
    /// As numbers without sign.
    Greater,
}

impl If {
    fn code(self) -> u8 {
        match self {
            Self::Equal => 0x10,
            Self::Unequal => 0x50,
            Self::Greater => 0x20,
        }
    }
}

/// A place in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// A program under construction.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    instructions: Vec<Instruction>,
    /// Where labels are, `usize::MAX` until they are placed.
    places: Vec<usize>,
    /// Jumps and where they lead.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    fn push(&mut self, code: u8, to: Register, from: Register, offset: i16, operand: i32) {
        let registers = to.0 | from.0 << 4;
        self.instructions.push(Instruction { code, registers, offset, operand });
    }

    /// A name for a place not yet reached.
    pub(crate) fn label(&mut self) -> Label {
        self.places.push(usize::MAX);
        Label(self.places.len() - 1)
    }

    /// The next instruction is the place.
    pub(crate) fn place(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label.0) {
            *place = self.instructions.len();
        }
    }

    pub(crate) fn load(&mut self, to: Register, size: Size, from: Register, offset: i16) {
        self.push(0x61 | size.code(), to, from, offset, 0);
    }

    pub(crate) fn store(&mut self, to: Register, size: Size, offset: i16, from: Register) {
        self.push(0x63 | size.code(), to, from, offset, 0);
    }

    pub(crate) fn set(&mut self, to: Register, value: i32) {
        self.push(0xb7, to, Register(0), 0, value);
    }

    pub(crate) fn copy(&mut self, to: Register, from: Register) {
        self.push(0xbf, to, from, 0, 0);
    }

    pub(crate) fn add(&mut self, to: Register, value: i32) {
        self.push(0x07, to, Register(0), 0, value);
    }

    pub(crate) fn and(&mut self, to: Register, value: i32) {
        self.push(0x57, to, Register(0), 0, value);
    }

    pub(crate) fn jump(&mut self, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.push(0x05, Register(0), Register(0), 0, 0);
    }

    pub(crate) fn jump_if(&mut self, left: Register, how: If, right: i32, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.push(0x05 | how.code(), left, Register(0), 0, right);
    }

    pub(crate) fn jump_if_than(&mut self, left: Register, how: If, right: Register, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.push(0x0d | how.code(), left, right, 0, 0);
    }

    /// Puts the address of a map into a register.
    pub(crate) fn load_map(&mut self, to: Register, map: &Map) {
        const PSEUDO_MAP_FD: Register = Register(1);
        self.push(0x18, to, PSEUDO_MAP_FD, 0, map.fd.as_raw_fd());
        self.push(0, Register(0), Register(0), 0, 0);
    }

    /// Calls a function of the kernel by its number.
    pub(crate) fn call(&mut self, function: i32) {
        self.push(0x85, Register(0), Register(0), 0, function);
    }

    pub(crate) fn exit(&mut self) {
        self.push(0x95, Register(0), Register(0), 0, 0);
    }

    /// The program with jumps as distances; `None` if one is too far or leads nowhere.
    pub(crate) fn finish(mut self) -> Option<Vec<Instruction>> {
        for (at, label) in self.jumps {
            let distance = self.places.get(label.0)?.checked_sub(at + 1)?;
            self.instructions.get_mut(at)?.offset = i16::try_from(distance).ok()?;
        }
        Some(self.instructions)
    }
}

/// A map of the kernel.
#[derive(Debug)]
pub(crate) struct Map {
    fd: OwnedFd,
    key_bytes: usize,
    value_bytes: usize,
}

impl Map {
    /// A map from `key_bytes` of whatever to a number of 32 bits.
    pub(crate) fn hash(key_bytes: usize, entries_max: u32) -> io::Result<Self> {
        Self::create(BPF_MAP_TYPE_HASH, key_bytes, entries_max)
    }

    /// A map from the number of a queue to the AF_XDP socket that gets its packets.
    pub(crate) fn of_sockets(entries_max: u32) -> io::Result<Self> {
        Self::create(BPF_MAP_TYPE_XSKMAP, size_of::<u32>(), entries_max)
    }

    fn create(kind: u32, key_bytes: usize, entries_max: u32) -> io::Result<Self> {
        let value_bytes = size_of::<u32>();
        let mut attributes = Attributes::default();
        attributes.put(0, kind);
        attributes.put(4, key_bytes as u32);
        attributes.put(8, value_bytes as u32);
        attributes.put(12, entries_max);
        // SAFETY: these attributes have no pointers; the result is a new descriptor or -1.
        let fd = unsafe { check_fd(bpf(BPF_MAP_CREATE, &mut attributes)) }?;
        Ok(Self { fd, key_bytes, value_bytes })
    }

    /// Puts `value` at `key`.
    pub(crate) fn set(&self, key: &[u8], value: u32) -> io::Result<()> {
        let value = value.to_ne_bytes();
        if key.len() != self.key_bytes || value.len() != self.value_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut attributes = self.attributes_of(key);
        attributes.put_pointer(16, value.as_ptr());
        // SAFETY: the pointers lead to locals as long as keys and values of this map are, which
        // the call only reads.
        check(unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attributes) }).map(drop)
    }

    /// Takes out what is at `key`.
    pub(crate) fn remove(&self, key: &[u8]) -> io::Result<()> {
        if key.len() != self.key_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut attributes = self.attributes_of(key);
        // SAFETY: the pointer leads to a key as long as those of this map are, which the call only
        // reads.
        check(unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut attributes) }).map(drop)
    }

    fn attributes_of(&self, key: &[u8]) -> Attributes {
        let mut attributes = Attributes::default();
        attributes.put(0, self.fd.as_raw_fd() as u32);
        attributes.put_pointer(8, key.as_ptr());
        attributes
    }
}

/// A program that the kernel has checked.
#[derive(Debug)]
pub(crate) struct XdpProgram {
    fd: OwnedFd,
}

impl XdpProgram {
    /// Has the kernel check a program; `multi_buffer` says that packets may lie in several buffers.
    pub(crate) fn load(instructions: &[Instruction], multi_buffer: bool) -> io::Result<Self> {
        let mut attributes = Attributes::default();
        attributes.put(0, BPF_PROG_TYPE_XDP);
        attributes.put(4, instructions.len() as u32);
        attributes.put_pointer(8, instructions.as_ptr().cast());
        attributes.put_pointer(16, LICENSE.as_ptr().cast());
        attributes.put(44, if multi_buffer { BPF_F_XDP_HAS_FRAGS } else { 0 });
        attributes.put_name(48, b"homa");
        // SAFETY: one pointer leads to as many instructions as is said, the other to a C string;
        // the call only reads both. The result is a new descriptor or -1.
        let fd = unsafe { check_fd(bpf(BPF_PROG_LOAD, &mut attributes)) }?;
        Ok(Self { fd })
    }

    /// Binds the program to an interface as long as the result lives; `flags` say how
    /// (`XDP_FLAGS_*`).
    pub(crate) fn attach(&self, interface: u32, flags: u32) -> io::Result<OwnedFd> {
        let mut attributes = Attributes::default();
        attributes.put(0, self.fd.as_raw_fd() as u32);
        attributes.put(4, interface);
        attributes.put(8, BPF_XDP);
        attributes.put(12, flags);
        // SAFETY: these attributes have no pointers; the result is a new descriptor or -1.
        unsafe { check_fd(bpf(BPF_LINK_CREATE, &mut attributes)) }
    }

    /// What the program answers to a packet.
    #[cfg(test)]
    pub(crate) fn run(&self, packet: &[u8]) -> io::Result<u32> {
        const BPF_PROG_TEST_RUN: c_int = 10;
        let mut attributes = Attributes::default();
        attributes.put(0, self.fd.as_raw_fd() as u32);
        attributes.put(8, packet.len() as u32);
        attributes.put_pointer(16, packet.as_ptr());
        // SAFETY: the pointer leads to as many bytes as is said, which the call only reads; its
        // results go into `attributes`, which is as long as is said.
        check(unsafe { bpf(BPF_PROG_TEST_RUN, &mut attributes) })?;
        Ok(attributes.get(4))
    }
}

/// Names a socket in a map: the number of its descriptor.
pub(crate) fn socket_value(socket: BorrowedFd<'_>) -> u32 {
    socket.as_raw_fd() as u32
}

const ATTRIBUTES_BYTES: usize = 128;

/// The argument of `bpf(2)` (`union bpf_attr`), zero where nothing is said.
#[derive(Debug)]
#[repr(C, align(8))]
struct Attributes {
    bytes: [u8; ATTRIBUTES_BYTES],
}

impl Default for Attributes {
    fn default() -> Self {
        Self { bytes: [0; ATTRIBUTES_BYTES] }
    }
}

impl Attributes {
    fn put(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn put_pointer(&mut self, at: usize, pointer: *const u8) {
        let address = pointer.expose_provenance() as u64;
        self.bytes[at..at + 8].copy_from_slice(&address.to_ne_bytes());
    }

    fn put_name(&mut self, at: usize, name: &[u8; 4]) {
        self.bytes[at..at + 4].copy_from_slice(name);
    }

    #[cfg(test)]
    fn get(&self, at: usize) -> u32 {
        crate::address::array(&self.bytes, at).map_or(0, u32::from_ne_bytes)
    }
}

/// Calls `bpf(2)`.
///
/// # Safety
/// The pointers among `attributes` must be what `command` takes.
unsafe fn bpf(command: c_int, attributes: &mut Attributes) -> c_int {
    // SAFETY: pointer and length describe `attributes`, where the call may answer; what it points
    // to is right by this function's contract.
    let result: c_long = unsafe {
        libc::syscall(libc::SYS_bpf, command, &raw mut attributes.bytes, ATTRIBUTES_BYTES)
    };
    // Descriptors, 0 and -1 all have 32 bits.
    result as c_int
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_forward_to_where_labels_were_placed() {
        let mut program = Assembler::default();
        let end = program.label();
        program.jump_if(Register(1), If::Equal, 7, end);
        program.set(Register(0), 1);
        program.place(end);
        program.exit();
        let instructions = program.finish().unwrap();
        assert_eq!(instructions[0].offset, 1);
        assert_eq!((instructions[0].code, instructions[0].operand), (0x15, 7));
    }

    #[test]
    fn a_jump_to_nowhere_is_no_program() {
        let mut program = Assembler::default();
        let nowhere = program.label();
        program.jump(nowhere);
        assert!(program.finish().is_none());
    }
}
