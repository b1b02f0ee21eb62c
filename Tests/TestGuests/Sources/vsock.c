// A guest's program between a socket of the address family vsock and standard input and output.
//   vsock connect PORT    to the host
//   vsock listen PORT     one connection
// Ends when both directions have; the end of standard input ends the socket's output only.
#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  return 1;
}

// Returns 0 at the end of the source.
static int copy(int from, int to) {
  static char buffer[65536];
  for (;;) {
    ssize_t count = read(from, buffer, sizeof buffer);
    if (count == 0) return 0;
    if (count < 0) return fail("read");
    for (ssize_t done = 0; done < count;) {
      ssize_t written = write(to, buffer + done, (size_t)(count - done));
      if (written < 0) return fail("write");
      done += written;
    }
  }
}

int main(int count, char **words) {
  if (count != 3) return 2;
  struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_port = (unsigned)atol(words[2])};
  int connection = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (connection < 0) return fail("socket");
  if (strcmp(words[1], "connect") == 0) {
    address.svm_cid = VMADDR_CID_HOST;
    if (connect(connection, (struct sockaddr *)&address, sizeof address) != 0) return fail("connect");
  } else {
    address.svm_cid = VMADDR_CID_ANY;
    if (bind(connection, (struct sockaddr *)&address, sizeof address) != 0) return fail("bind");
    if (listen(connection, 1) != 0) return fail("listen");
    fprintf(stderr, "listening\n");
    connection = accept(connection, NULL, NULL);
    if (connection < 0) return fail("accept");
  }
  pid_t child = fork();
  if (child < 0) return fail("fork");
  if (child == 0) {
    close(1);
    int status = copy(0, connection);
    shutdown(connection, SHUT_WR);
    _exit(status);
  }
  int status = copy(connection, 1);
  // Whoever reads there need not wait for the other direction.
  close(1);
  int other = 0;
  waitpid(child, &other, 0);
  return status ? status : WEXITSTATUS(other);
}
