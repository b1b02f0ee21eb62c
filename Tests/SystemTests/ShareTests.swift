import CLinux
import Hosting
import Platform
import TestGuests
import Testing

private let missing = HardwareGuest.missing

/// Linux with 9pnet_virtio, on the software processor, and folders of this host.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct ShareTests {
  private func shell(_ command: String) throws -> String {
    try TestProcess.run(["/bin/sh", "-c", command]).output
  }

  @Test("a guest uses a folder and nothing beside it, one read-only, also after a snapshot")
  func linux() throws {
    let uj = try Underjack()
    defer { uj.close() }
    let (data, work) = ("\(uj.folder)/data", "\(uj.folder)/work")
    _ = try shell(
      """
      mkdir \(data) \(work) \(uj.folder)/secret; echo hidden > \(uj.folder)/secret/file
      echo hello > \(data)/greeting; ln -s ../secret \(work)/out; ln -s \(uj.folder)/secret/file \(work)/abs
      mkdir \(work)/deep; i=0; while [ $i -lt 700 ]; do : > \(work)/deep/entry-with-a-long-name-$i; i=$((i+1)); done
      """)
    let machine = try NetworkedMachine(
      uj, "share_1", networks: [],
      options: ["--share", "\(data),tag=data", "--share", "\(work),tag=work,write"],
      guest: HardwareGuest.guest)
    let options = "trans=virtio,version=9p2000.L,msize=262144"
    _ = try machine.run(
      "mkdir -p /mnt/d /mnt/w; mount -t 9p -o \(options) data /mnt/d; mount -t 9p -o \(options) work /mnt/w"
    )
    #expect(try machine.run("cat /mnt/d/greeting").contains("hello"))
    #expect(try machine.run("echo no > /mnt/d/new; echo $?").contains("Read-only file system"))
    #expect(try machine.run("rm /mnt/d/greeting").contains("Read-only file system"))
    #expect(try machine.run("ls /mnt/w/deep | wc -l").contains("700"))

    // What leads out is looked for in the guest's own file system.
    #expect(try !machine.run("cat /mnt/w/out/file /mnt/w/abs").contains("hidden"))
    #expect(try machine.run("readlink /mnt/w/out").contains("../secret"))
    #expect(try machine.run("ls /mnt/w/..").contains("w"))

    let text = try machine.run(
      """
      cd /mnt/w; umask 022; dd if=/dev/urandom of=big bs=1M count=4 2>/dev/null; md5sum big; mkdir a; \
      mv big a/large; ln a/large hard; ln -s a/large soft; chmod 750 a; chmod 4755 hard; touch -d '2001-02-03 04:05:06' soft; \
      echo more >> a/text; echo more >> a/text; truncate -s 9 a/text; mv a b; cat b/text; md5sum soft b/large; \
      stat -c '%a %h %s' hard; mknod dev c 1 3; mkfifo pipe; ls -l pipe; rmdir b; rm hard; ls b
      """, seconds: 120)
    #expect(text.contains("755 2 4194304"))
    #expect(text.contains("more\r\nmore") || text.contains("more\nmore"))
    #expect(text.contains("mknod: dev: Operation not permitted"))
    #expect(text.contains("prw"))
    #expect(text.contains("rmdir: 'b': Directory not empty"))
    let digests: [Substring] = text.split(whereSeparator: \.isWhitespace).filter {
      $0.count == 32 && $0.allSatisfy(\.isHexDigit)
    }
    // `soft` leads to a name that is gone.
    #expect(Set(digests).count == 1 && digests.count == 2)
    #expect(try shell("md5sum < \(work)/b/large").contains(digests.first.map(String.init) ?? "?"))
    #expect(try shell("stat -c %a \(work)/b").hasPrefix("750"))

    // A file that is open, and a folder that somebody stands in, over a suspension.
    _ = try machine.run("exec 5>/mnt/w/kept; echo one >&5; cd /mnt/w/deep")
    try uj.run("suspend", machine.name)
    try uj.run("start", machine.name)
    let line = try GuestLine(uj, machine.name)
    _ = try line.run("echo two >&5; exec 5>&-")
    #expect(try shell("cat \(work)/kept") == "one\ntwo\n")
    #expect(try line.run("ls | wc -l; ls /mnt/d").contains("700"))

    // The host puts a link in a folder's place.
    _ = try line.run("cd /; ls /mnt/w/b")
    _ = try shell("mv \(work)/b \(work)/old; ln -s ../secret \(work)/b")
    #expect(try !line.run("cat /mnt/w/b/file; ls /mnt/w/b/").contains("hidden"))
  }

  @Test("shares that cannot be are refused in a line")
  func refusals() throws {
    let uj = try Underjack()
    defer { uj.close() }
    try uj.run("new", "plain", "-m", "64M")
    #expect(throws: (any Error).self) { try uj.run("set", "plain", "shares=/tmp,tag=") }
    #expect(throws: (any Error).self) {
      try uj.run("set", "plain", "shares=/tmp,tag=a /var,tag=a")
    }
    try uj.run("set", "plain", "shares=/tmp,tag=a,write /nowhere")
    #expect(try uj.run("show", "plain").contains("shares = [\"/tmp,tag=a,write\", \"/nowhere\"]"))
    let result = try uj("start", "plain")
    #expect(result.status != 0)
    #expect(result.output.contains("/nowhere"))
  }
}
