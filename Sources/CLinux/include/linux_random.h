// The kernel's random numbers.
#pragma once
#include <sys/random.h>
