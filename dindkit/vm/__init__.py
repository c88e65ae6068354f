"""A virtual machine of QEMU that boots an image under Debian's kernel: an engine that needs no rights."""
