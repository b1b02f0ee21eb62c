// Kernel interfaces that Swift cannot import by itself, as static inline functions. No logic.
#pragma once
#include "linux_atomics.h"
#include "linux_descriptors.h"
#include "linux_hosting.h"
#include "linux_kvm.h"
#include "linux_network.h"
#include "linux_pseudo_terminal.h"
#include "linux_terminal.h"
#include "linux_random.h"
#include "linux_sandbox.h"
#include "linux_scheduling.h"
#include "linux_shared_folder.h"
#include "linux_storage.h"
