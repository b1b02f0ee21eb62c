// What has no older form: vector_vex_new.c has it.
#pragma once

#include "soft_vex.h"

extern const soft_vex_entry soft_vex_new_entries[];
extern const uint32_t soft_vex_new_count;
