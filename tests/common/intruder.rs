//! What a thread of a running program may still do: system calls made in its place, as one would who had taken it over.

use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A thread that is held fast, and goes on where it stood when this is dropped.
pub struct Thread {
    id: Pid,
    before: nix::libc::user_regs_struct,
}

impl Thread {
    /// Holds a thread of another process while it waits in a system call.
    pub fn hold(id: Pid) -> Self {
        const SYSCALL: u64 = 0x050f;
        ptrace::seize(id, ptrace::Options::empty()).unwrap();
        for _ in 0..100 {
            ptrace::interrupt(id).unwrap();
            wait(id);
            let before = ptrace::getregs(id).unwrap();
            let behind = ptrace::read(id, (before.rip - 2) as ptrace::AddressType).unwrap();
            if behind as u64 & 0xffff == SYSCALL {
                return Self { id, before };
            }
            ptrace::cont(id, None).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the thread never waits");
    }

    /// Makes a system call; what it returns. A text among the arguments goes by its place in the thread's memory.
    pub fn call(&self, number: i64, arguments: [Argument<'_>; 4]) -> i64 {
        let mut registers = self.before;
        // Below all that the thread has on its stack.
        let mut place = registers.rsp - 4096;
        let values = arguments.map(|argument| match argument {
            Argument::Number(number) => number as u64,
            Argument::Text(text) => {
                let at = place;
                let bytes: Vec<u8> = text.bytes().chain([0; 8]).collect();
                for word in bytes.chunks_exact(8) {
                    let word = i64::from_ne_bytes(word.try_into().unwrap());
                    ptrace::write(self.id, place as ptrace::AddressType, word).unwrap();
                    place += 8;
                }
                at
            }
        });
        [registers.rdi, registers.rsi, registers.rdx, registers.r10] = values;
        (registers.rax, registers.orig_rax, registers.rip) = (number as u64, u64::MAX, registers.rip - 2);
        ptrace::setregs(self.id, registers).unwrap();
        ptrace::step(self.id, None).unwrap();
        wait(self.id);
        ptrace::getregs(self.id).unwrap().rax as i64
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let _ = ptrace::setregs(self.id, self.before).and_then(|()| ptrace::detach(self.id, None));
    }
}

/// An argument of a system call.
#[derive(Clone, Copy)]
pub enum Argument<'a> {
    Number(i64),
    Text(&'a str),
}

fn wait(id: Pid) {
    let status = waitpid(id, Some(WaitPidFlag::__WALL)).unwrap();
    assert!(matches!(status, WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..)), "{status:?}");
}
