import CLinux
import Glibc
import Hosting
import Inventory
import Platform
import Testing

/// Folders for PYTHONPATH: Debian's cloud-init and what it imports.
private let modules: Result<[String], DemonstrationError> = {
  let cache = PackageCache(folder: PackageCache.standardFolder()) { _ in }
  let names = [
    "cloud-init", "python3-yaml", "python3-jinja2", "python3-markupsafe", "python3-configobj",
    "python3-six", "python3-jsonschema", "python3-attr", "python3-pyrsistent",
    "python3-requests", "python3-oauthlib", "python3-jsonpatch", "python3-json-pointer",
    "python3-netifaces", "python3-urllib3", "python3-idna", "python3-chardet",
    "python3-certifi", "python3-charset-normalizer",
  ]
  do throws(DemonstrationError) {
    var folders: [String] = []
    for name in names {
      folders.append(try cache.unpacked(name) + "/usr/lib/python3/dist-packages")
    }
    return .success(folders)
  } catch {
    return .failure(error)
  }
}()

private let missing: String? = {
  for program in ["python3", "xorriso", "apt-get"]
  where access("/usr/bin/\(program)", X_OK) != 0 {
    return "\(program) is missing"
  }
  if case .failure(let error) = modules { return "no cloud-init: \(error)" }
  return nil
}()

/// Seeds as cloud-init's own code reads them: its NoCloud source, its parts of the user data, its schema.
@Suite(.enabled(if: missing == nil, "\(missing ?? "")"))
struct CloudInitSourceTests {
  private static let reader = """
    import json, sys
    from cloudinit import helpers, user_data, util
    from cloudinit.config import schema
    from cloudinit.sources import DataSourceNoCloud
    folder = sys.argv[1]
    paths = helpers.Paths({"cloud_dir": folder + "/cloud", "run_dir": folder + "/run"})
    paths.seed_dir = folder + "/seed"
    source = DataSourceNoCloud.DataSourceNoCloud({}, None, paths)
    source.ds_cfg = {"fs_label": None}
    found = source._get_data()
    configuration = {}
    scripts = []
    for part in user_data.UserDataProcessor(paths).process(source.get_userdata_raw()).walk():
      if part.is_multipart(): continue
      text = part.get_payload(decode=True).decode()
      if part.get_content_type() == "text/cloud-config":
        one = util.load_yaml(text)
        schema.validate_cloudconfig_schema(one, schema.get_schema(), strict=True)
        configuration.update(one)
      else: scripts.append(text)
    print("ANSWER" + json.dumps({
      "found": bool(found), "instance": source.metadata.get("instance-id"),
      "hostname": source.metadata.get("local-hostname"), "network": source.network_config,
      "configuration": configuration, "scripts": scripts}))
    """

  private func write(_ content: [UInt8], _ path: String) throws {
    let file = try FileDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC)
    #expect(try content.withUnsafeBytes { try file.write($0) } == content.count)
  }

  /// What cloud-init says of the disc.
  private func ask(_ seed: CloudInitSeed, _ folder: TestFolder) throws -> JSONValue {
    let path = folder.path
    try write(seed.image, "\(path)/seed.iso")
    try write(Array(Self.reader.utf8), "\(path)/read.py")
    let unpacked = try ChildProcess.run([
      "/bin/sh", "-c",
      "mkdir -p \(path)/seed \(path)/cloud \(path)/run; xorriso -osirrox on -indev \(path)/seed.iso -extract / \(path)/seed/nocloud",
    ])
    #expect(unpacked.status == 0, "\(unpacked.output)")
    let result = try ChildProcess.run(
      ["/usr/bin/python3", "\(path)/read.py", path],
      environment: [
        "PYTHONPATH": try modules.get().joined(separator: ":"),
        "PYTHONDONTWRITEBYTECODE": "1",
      ], seconds: 120)
    let line = result.output.split(whereSeparator: \.isNewline).first { $0.hasPrefix("ANSWER") }
    let text = try #require(line, "\(result.output)")
    return try JSONValue(parsing: String(text.dropFirst(6)))
  }

  @Test("host name, accounts with keys and passwords, files, and the network")
  func everything() throws {
    let folder = TestFolder()
    let own = """
      #cloud-config
      write_files:
        - path: /etc/proof
          content: "from write_files"

      """
    try write(Array(own.utf8), "\(folder.path)/own")
    try write(
      Array("version: 2\nethernets: {eth0: {dhcp4: true}}\n".utf8), "\(folder.path)/network")
    var settings = MachineDefinition.CloudInit()
    settings.user = "alice"
    settings.authorizedKeys = [#"ssh-ed25519 AAAA a "quoted" \ comment: #1"#]
    settings.password = "$6$salt$hash"
    settings.userData = "\(folder.path)/own"
    settings.networkConfiguration = "\(folder.path)/network"
    let answer = try ask(
      try CloudInitSeed(settings, name: "my_web", identifier: "id: 1"), folder)
    #expect(answer["found"] == true)
    #expect(answer["instance"]?.string == "id: 1")
    #expect(answer["hostname"]?.string == "my-web")
    #expect(answer["network"]?["version"]?.integer == 2)
    let configuration = try #require(answer["configuration"])
    let user = try #require(configuration["users"]?.array?.first)
    #expect(user["name"]?.string == "alice")
    #expect(user["passwd"]?.string == "$6$salt$hash")
    #expect(user["lock_passwd"] == false)
    #expect(user["ssh_authorized_keys"]?.array?.compactMap(\.string) == settings.authorizedKeys)
    #expect(configuration["ssh_pwauth"] == true)
    let file = try #require(configuration["write_files"]?.array?.first)
    #expect(file["path"]?.string == "/etc/proof")
    #expect(file["content"]?.string == "from write_files")
  }

  @Test("the image's own account, and a script of the person's")
  func script() throws {
    let folder = TestFolder()
    try write(Array("#!/bin/sh\necho hello\n".utf8), "\(folder.path)/own")
    var settings = MachineDefinition.CloudInit()
    settings.authorizedKeys = ["ssh-rsa AAAA", "ssh-rsa AAAB"]
    settings.password = "$6$salt$hash"
    settings.hostname = "web.example"
    settings.userData = "\(folder.path)/own"
    let answer = try ask(try CloudInitSeed(settings, name: "m", identifier: "2"), folder)
    #expect(answer["hostname"]?.string == "web.example")
    let configuration = try #require(answer["configuration"])
    #expect(configuration["password"]?.string == "$6$salt$hash")
    #expect(configuration["chpasswd"]?["expire"] == false)
    #expect(configuration["ssh_authorized_keys"]?.array?.count == 2)
    #expect(answer["scripts"]?.array?.compactMap(\.string) == ["#!/bin/sh\necho hello\n"])
  }
}
