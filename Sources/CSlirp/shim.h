#include <dlfcn.h>
#include <slirp/libslirp.h>

/// What is called of libslirp. It is loaded with the first user network: it brings GLib with it, and a program that lists
/// machines or writes a disk image has no use for their pages or the time they take to link.
struct slirp_library {
  __typeof__(&slirp_new) create;
  __typeof__(&slirp_cleanup) cleanup;
  __typeof__(&slirp_input) input;
  __typeof__(&slirp_pollfds_fill) pollfds_fill;
  __typeof__(&slirp_pollfds_poll) pollfds_poll;
  __typeof__(&slirp_add_hostfwd) add_hostfwd;
  __typeof__(&slirp_remove_hostfwd) remove_hostfwd;
};

/// Fills `library`; it stays loaded. Null, or what is missing: `dlerror`'s words.
static inline const char *_Nullable slirp_library_load(struct slirp_library *_Nonnull library) {
  void *handle = dlopen("libslirp.so.0", RTLD_NOW | RTLD_LOCAL);
  if (!handle) return dlerror();
  struct {
    const char *name;
    void *entry;
  } entries[] = {
      {"slirp_new", &library->create},
      {"slirp_cleanup", &library->cleanup},
      {"slirp_input", &library->input},
      {"slirp_pollfds_fill", &library->pollfds_fill},
      {"slirp_pollfds_poll", &library->pollfds_poll},
      {"slirp_add_hostfwd", &library->add_hostfwd},
      {"slirp_remove_hostfwd", &library->remove_hostfwd},
  };
  for (unsigned index = 0; index < sizeof entries / sizeof entries[0]; index++) {
    void *symbol = dlsym(handle, entries[index].name);
    if (!symbol) return dlerror();
    *(void **)entries[index].entry = symbol;
  }
  return 0;
}
