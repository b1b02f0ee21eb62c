// ncurses with wide characters. The functions are what Swift can not import: macros and globals.
#pragma once
#define NCURSES_WIDECHAR 1
#include <curses.h>
#include <stdio.h>
#include <term.h>

static inline WINDOW *ncurses_standard_window(void) { return stdscr; }
static inline WINDOW *ncurses_current_screen(void) { return curscr; }
static inline SCREEN *ncurses_new_terminal(const char *type) { return newterm(type, stdout, stdin); }
static inline int ncurses_colors(void) { return COLORS; }

static inline attr_t ncurses_bold(void) { return WA_BOLD; }
static inline attr_t ncurses_dim(void) { return WA_DIM; }
static inline attr_t ncurses_italic(void) { return WA_ITALIC; }
static inline attr_t ncurses_underline(void) { return WA_UNDERLINE; }
static inline attr_t ncurses_blink(void) { return WA_BLINK; }
static inline attr_t ncurses_reverse(void) { return WA_REVERSE; }
static inline attr_t ncurses_invisible(void) { return WA_INVIS; }

// A cell of one character with its combining marks; pairs above 32767 go through `opts`.
static inline int ncurses_set_cell(cchar_t *cell, const wchar_t *text, attr_t attributes, int pair) {
  return setcchar(cell, text, attributes, (short)(pair > 32767 ? 32767 : pair), &pair);
}

static inline int ncurses_put_cells(int row, int column, const cchar_t *cells, int count) {
  return mvwadd_wchnstr(stdscr, row, column, cells, count);
}
