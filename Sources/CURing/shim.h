// Before liburing.h, which asks for X/Open's names: they must be the same in every module.
#include <sys/select.h>
#include <sys/stat.h>

#include <liburing.h>
