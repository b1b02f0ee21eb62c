// What a console program needs of the C library: streams, folders, window size, locale, fatal signals.
#pragma once
#include <dirent.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

// Columns and rows of a terminal's window; -1 where it has none.
static inline int linux_window_size(int descriptor, int *columns, int *rows) {
  struct winsize size = {0};
  if (ioctl(descriptor, TIOCGWINSZ, &size) != 0) return -1;
  *columns = size.ws_col;
  *rows = size.ws_row;
  return 0;
}

// Sets a handler and returns what was there. SA_RESTART is not wanted: a poll that is interrupted looks around.
static inline int linux_handle_signal(int number, void (*handler)(int), struct sigaction *old) {
  struct sigaction action = {0};
  action.sa_handler = handler;
  action.sa_flags = SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  return sigaction(number, &action, old);
}
static inline int linux_is_ignored(const struct sigaction *action) { return action->sa_handler == SIG_IGN; }
static inline FILE *linux_standard_error(void) { return stderr; }
// wcwidth without _GNU_SOURCE.
extern int wcwidth(wchar_t character);
