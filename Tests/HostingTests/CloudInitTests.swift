import Glibc
import Hosting
import Inventory
import Platform
import Testing

/// What `[cloud-init]` becomes, read back by other programs.
@Suite struct CloudInitTests {
  private func seed(
    _ folder: TestFolder, _ change: (inout MachineDefinition.CloudInit) -> Void = { _ in }
  ) throws -> CloudInitSeed {
    var settings = MachineDefinition.CloudInit()
    change(&settings)
    return try CloudInitSeed(settings, name: "my_web", identifier: "id-1")
  }

  private func write(_ text: String, _ name: String, in folder: TestFolder) throws -> String {
    let path = "\(folder.path)/\(name)"
    let file = try FileDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC)
    _ = try Array(text.utf8).withUnsafeBytes { try file.write($0) }
    return path
  }

  @Test func identityAlone() throws {
    let seed = try seed(TestFolder())
    #expect(seed.metaData == "instance-id: \"id-1\"\nlocal-hostname: \"my-web\"\n")
    #expect(seed.userData == "#cloud-config\n")
    #expect(seed.networkConfiguration == nil)
    // The same gives the same.
    let isSame = seed.image == seed.image
    #expect(isSame)
    #expect(seed.image.count % 2048 == 0)
  }

  @Test func accounts() throws {
    let own = try seed(TestFolder()) {
      $0.user = "alice"
      $0.authorizedKeys = [#"ssh-ed25519 AAAA a "quoted" \ comment"#]
      $0.password = "$6$salt$hash"
      $0.hostname = "web.example"
    }
    #expect(
      own.userData == #"""
        #cloud-config
        users:
          - name: "alice"
            shell: "/bin/bash"
            sudo: "ALL=(ALL) NOPASSWD:ALL"
            lock_passwd: false
            passwd: "$6$salt$hash"
            ssh_authorized_keys:
              - "ssh-ed25519 AAAA a \"quoted\" \\ comment"
        ssh_pwauth: true

        """#)
    #expect(own.metaData.contains("local-hostname: \"web.example\""))
    let images = try seed(TestFolder()) {
      $0.authorizedKeys = ["ssh-rsa AAAA", "ssh-rsa AAAB"]
      $0.password = "$6$salt$hash"
    }
    #expect(
      images.userData == """
        #cloud-config
        password: "$6$salt$hash"
        chpasswd:
          expire: false
        ssh_authorized_keys:
          - "ssh-rsa AAAA"
          - "ssh-rsa AAAB"
        ssh_pwauth: true

        """)
  }

  @Test("the person's own user data comes as it is, or behind ours") func userData() throws {
    let folder = TestFolder()
    let script = "#!/bin/sh\necho ==underjack-0==\n"
    let path = try write(script, "script", in: folder)
    #expect(try seed(folder) { $0.userData = path }.userData == script)
    let both = try seed(folder) {
      $0.userData = path
      $0.user = "bob"
    }.userData
    #expect(both.hasPrefix("Content-Type: multipart/mixed; boundary=\"==underjack-1==\"\n"))
    #expect(both.contains("name: \"bob\""))
    #expect(both.contains("\nContent-Type: text/plain; charset=\"utf-8\"\n\n\(script)"))
    #expect(both.hasSuffix("--==underjack-1==--\n"))
    // A message brings its own headers.
    let message = try write("Content-Type: text/x-shellscript\n\n#!/bin/sh\n", "mime", in: folder)
    let third = try seed(folder) {
      $0.userData = message
      $0.user = "bob"
    }.userData
    #expect(third.contains("--==underjack-0==\nContent-Type: text/x-shellscript\n\n#!/bin/sh"))
  }

  @Test func badFiles() throws {
    let folder = TestFolder()
    let plain = try write("packages: [nginx]\n", "plain", in: folder)
    #expect(
      refusal { _ = try seed(folder) { $0.userData = plain } }.hasPrefix(
        "\(plain):1: expected \"#cloud-config\""))
    let empty = try write("", "empty", in: folder)
    #expect(refusal { _ = try seed(folder) { $0.userData = empty } }.contains("empty:1: expected"))
    #expect(
      refusal { _ = try seed(folder) { $0.networkConfiguration = plain } }.contains(
        "plain:1: expected a network configuration"))
    #expect(
      refusal { _ = try seed(folder) { $0.userData = "/nowhere/x" } } == "/nowhere/x: no such file")
  }

  @Test(
    "other programs read the image",
    .enabled(
      if: access("/usr/bin/xorriso", X_OK) == 0 || access("/usr/bin/bsdtar", X_OK) == 0,
      "neither xorriso nor bsdtar is there: install xorriso"))
  func readBack() throws {
    let folder = TestFolder()
    // Over the ends of several sectors.
    let long = "#cloud-config\n" + String(repeating: "# ünïcode line\n", count: 1000)
    let path = try write(long, "long", in: folder)
    let network = try write("version: 2\n", "network", in: folder)
    let seed = try seed(folder) {
      $0.userData = path
      $0.networkConfiguration = network
    }
    let image = "\(folder.path)/seed.iso"
    let file = try FileDescriptor.open(image, O_WRONLY | O_CREAT)
    #expect(try seed.image.withUnsafeBytes { try file.write($0) } == seed.image.count)
    func content(_ name: String) throws -> String {
      try ChildProcess.run(["/bin/cat", "\(folder.path)/out/\(name)"]).output
    }
    func expectFiles(_ reader: String) throws {
      #expect(try content("user-data") == long, "\(reader)")
      #expect(try content("meta-data") == seed.metaData, "\(reader)")
      #expect(try content("network-config") == "version: 2\n", "\(reader)")
      _ = try ChildProcess.run([
        "/bin/sh", "-c", "chmod -R u+w \(folder.path)/out; rm -rf \(folder.path)/out",
      ])
    }
    if access("/usr/bin/xorriso", X_OK) == 0 {
      for options in [["-read_fs", "norock"], ["-read_fs", "nojoliet"], []] {
        let result = try ChildProcess.run(
          ["/usr/bin/xorriso"] + options + [
            "-osirrox", "on", "-indev", image, "-toc", "-extract", "/", "\(folder.path)/out",
          ])
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.contains("Volume id    : 'cidata'"), "\(result.output)")
        #expect(!result.output.contains("WARNING"), "\(result.output)")
        try expectFiles("xorriso \(options)")
      }
    }
    if access("/usr/bin/bsdtar", X_OK) == 0 {
      mkdir("\(folder.path)/out", 0o755)
      let result = try ChildProcess.run([
        "/usr/bin/bsdtar", "-xf", image, "-C", "\(folder.path)/out",
      ])
      #expect(result.status == 0, "\(result.output)")
      try expectFiles("bsdtar")
    }
  }

  @Test("made at the start, renewed with the definition, kept for a guest that goes on")
  func life() throws {
    let folder = TestFolder()
    let inventory = Inventory(location: folder.location, images: NoImages())
    let name = try MachineName("m")
    var definition = MachineDefinition()
    definition.uuid = .random()
    definition.cloudInit = .init()
    try inventory.create(name, definition)
    let path = inventory.location.seed(name)
    func content() throws -> [UInt8] {
      Array(try ChildProcess.run(["/usr/bin/md5sum", path]).output.utf8)
    }
    try CloudInitSeed.prepare(name, definition, inventory, isResumed: false)
    let first = try content()
    var information = stat()
    stat(path, &information)
    let mode = information.st_mode & 0o777
    #expect(mode == 0o600)
    definition.cloudInit?.user = "alice"
    try CloudInitSeed.prepare(name, definition, inventory, isResumed: true)
    #expect(try content() == first)
    try CloudInitSeed.prepare(name, definition, inventory, isResumed: false)
    #expect(try content() != first)
    definition.cloudInit = nil
    try CloudInitSeed.prepare(name, definition, inventory, isResumed: false)
    #expect(!FileReading.exists(path))
  }
}
