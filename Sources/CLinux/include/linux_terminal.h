// What a console program needs of the C library: streams, folders, window size, locale, fatal signals.
#pragma once
#include <dirent.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <wchar.h>
