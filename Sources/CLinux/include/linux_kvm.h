// The KVM interface of the kernel (Documentation/virt/kvm/api.rst): ioctl numbers as functions, because macros with
// arguments are not imported by Swift.
#pragma once
#include <linux/kvm.h>
