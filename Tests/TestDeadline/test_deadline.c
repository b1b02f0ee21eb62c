// The end of a test run that hangs. Starts with the process, by itself.
#include "test_deadline.h"

#include <dirent.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// One of the few that libdispatch's threads do not block.
static const int WHERE_SIGNAL = SIGSYS;

/// On each thread: where it is.
static void tell_where(int number) {
  (void)number;
  void *frames[48];
  int count = backtrace(frames, 48);
  dprintf(2, "thread %ld:\n", (long)syscall(SYS_gettid));
  backtrace_symbols_fd(frames, count, 2);
}

static void pause_for(long milliseconds) {
  struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
  nanosleep(&time, 0);
}

static void end_run(long minutes) {
  dprintf(2, "the test run has not ended within %ld minutes; its threads:\n", minutes);
  struct sigaction action = {.sa_handler = tell_where, .sa_flags = SA_RESTART};
  sigaction(WHERE_SIGNAL, &action, 0);
  DIR *tasks = opendir("/proc/self/task");
  struct dirent *entry;
  while (tasks && (entry = readdir(tasks))) {
    long task = atol(entry->d_name);
    if (task <= 0 || task == syscall(SYS_gettid)) continue;
    syscall(SYS_tgkill, getpid(), task, WHERE_SIGNAL);
    pause_for(100);
  }
  if (system("ps -eo pid,ppid,stat,wchan:20,time,args --forest | grep -v '\\]$' | tail -n 100 >&2")) {}
  _exit(3);
}

static void *watch(void *argument) {
  long minutes = (long)argument;
  for (long second = 0; !minutes || second < minutes * 60; second++) {
    pause_for(1000);
    // Else a log ends far before the test that hangs.
    fflush(stdout);
  }
  end_run(minutes);
  return 0;
}

__attribute__((constructor)) static void start(void) {
  const char *text = getenv("UNDERJACK_TEST_MINUTES");
  long minutes = text ? atol(text) : getenv("UNDERJACK_LONG_TESTS") ? 0 : TEST_DEADLINE_MINUTES;
  // Signals to the process are for the tests' own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  pthread_t thread;
  if (!pthread_create(&thread, 0, watch, (void *)minutes)) pthread_detach(thread);
  pthread_sigmask(SIG_SETMASK, &before, 0);
}
