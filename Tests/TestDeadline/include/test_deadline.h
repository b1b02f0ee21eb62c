#ifndef TEST_DEADLINE_H
#define TEST_DEADLINE_H

/// Minutes after which a test run that has not ended says where each of its threads is, and ends: a run that hangs
/// must not be silent. UNDERJACK_TEST_MINUTES changes them; 0, and UNDERJACK_LONG_TESTS, leave it all the time it takes.
enum { TEST_DEADLINE_MINUTES = 45 };

#endif
