"""CPUs that this machine does not have: QEMU's user mode, and the engines' own wheels for them."""
