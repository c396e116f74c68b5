"""Runs a program for which the kernel refuses io_uring, as most containers do.

    without_io_uring.py ERRNO PROGRAM [ARGUMENT...]

Every system call of io_uring answers ERRNO, EPERM or ENOSYS for instance; the program takes this process's place.
Exit code 77: no seccomp filter can be had here.
"""

import ctypes
import errno
import os
import struct
import sys

IO_URING_SETUP, IO_URING_REGISTER = 425, 427  # the same on every architecture
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, AT_LEAST, MORE_THAN, ANSWER = 0x20, 0x35, 0x25, 0x06  # BPF: ld [k], jge, jgt, ret
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000


def forbid_io_uring(error: int) -> bool:
    steps = ((LOAD, 0, 0, 0),  # the number of the system call
             (AT_LEAST, 0, 1, IO_URING_SETUP),
             (MORE_THAN, 0, 1, IO_URING_REGISTER),
             (ANSWER, 0, 0, ALLOW),
             (ANSWER, 0, 0, FAIL_WITH | error))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    header = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(program)))
    zero, libc = ctypes.c_ulong(0), ctypes.CDLL(None)
    return (libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) == 0
            and libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), header, zero, zero) == 0)


if __name__ == "__main__":
    if not forbid_io_uring(getattr(errno, sys.argv[1])):
        sys.exit(77)
    os.execv(sys.argv[2], sys.argv[2:])
