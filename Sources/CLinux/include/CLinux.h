// Kernel interfaces that Swift cannot import by itself, as static inline functions. No logic.
#pragma once
#include "linux_descriptors.h"
#include "linux_kvm.h"
#include "linux_terminal.h"
