import Inventory
import Testing

/// `[cloud-init]` and `[vsock]`.
@Suite struct ServiceDefinitionTests {
  private func read(_ text: String, folder: String? = nil) throws -> MachineDefinition {
    try MachineDefinition(text: text, path: "m", folder: folder)
  }

  private func refusal(_ text: String) -> String {
    do {
      _ = try read(text)
      return "nothing was refused"
    } catch {
      return "\(error)"
    }
  }

  @Test("bad values are told of with line and what was expected")
  func badValues() {
    for (row, line) in [
      ("user = \"Alice Smith\"", "m:3: cloud-init.user must be the name of an account"),
      ("user = \"\"", "m:3: cloud-init.user must be"),
      ("user = 7", "m:3: cloud-init.user must be a text in quotes, not a number"),
      (
        "password = \"secret\"",
        "m:3: cloud-init.password must be a hash as 'openssl passwd -6' prints it"
      ),
      ("password = \"$6$only\"", "m:3: cloud-init.password must be a hash"),
      ("hostname = \"a_b\"", "m:3: cloud-init.hostname must be a host name"),
      ("hostname = \"-a\"", "m:3: cloud-init.hostname must be"),
      ("hostname = \"a..b\"", "m:3: cloud-init.hostname must be"),
      ("user-data = \"\"", "m:3: cloud-init.user-data must be the path of a file"),
      (
        "ssh-authorized-keys = \"ssh-rsa AAAA\"",
        "m:3: cloud-init.ssh-authorized-keys must be a list of texts, not a text"
      ),
      (
        "ssh-authorized-keys = [\"~/.ssh/id.pub\"]",
        "m:3: cloud-init.ssh-authorized-keys must be a list of public keys"
      ),
      (
        "ssh-authorized-keys = [\"ssh-rsa AAAA\\nssh-rsa AAAB\"]",
        "m:3: cloud-init.ssh-authorized-keys must be"
      ),
      ("ssh-keys = []", "m:3: unknown key \"ssh-keys\" in [cloud-init]; did you mean ssh-auth"),
      ("pasword = \"x\"", "m:3: unknown key \"pasword\" in [cloud-init]; did you mean password?"),
    ] {
      let text = refusal("memory = \"1G\"\n[cloud-init]\n\(row)\n")
      #expect(text.hasPrefix(line), "\(text)")
    }
    // A password is not repeated on the terminal.
    #expect(!refusal("[cloud-init]\npassword = \"secret\"\n").contains("secret"))
    for (row, line) in [
      ("cid = 2", "m:2: vsock.cid must be a number from 3 to 4294967294, not 2"),
      ("cid = 4294967295", "m:2: vsock.cid must be a number"),
      ("cid = \"any\"", "m:2: vsock.cid must be a number from 3 to 4294967294, not a text"),
      ("path = \"\"", "m:2: vsock.path must be the path of a socket"),
      ("port = 1", "m:2: unknown key \"port\" in [vsock]"),
    ] {
      let text = refusal("[vsock]\n\(row)\n")
      #expect(text.hasPrefix(line), "\(text)")
    }
    #expect(refusal("vsock = 3\n").contains("vsock must be a table [vsock]"))
  }

  @Test func sockets() throws {
    #expect(try read("").socketDevice == nil)
    #expect(try read("[vsock]\n").socketDevice == .init())
    #expect(try read("[vsock]\ncid = \"auto\"\n").socketDevice == .init())
    #expect(try read("[vsock]\npath = \"s\"\n", folder: "/m").socketDevice?.path == "/m/s")
    typealias Device = MachineDefinition.SocketDevice
    #expect(Device("auto") == .init())
    #expect(Device("auto,cid=3") == .init(contextIdentifier: 3))
    #expect(Device("/a,b,cid=9") == .init(contextIdentifier: 9, path: "/a,b"))
    for text in ["", ",cid=3", "/a,cid=2", "/a,cid=x", "/a/"] { #expect(Device(text) == nil) }
    for device in [Device(), Device(contextIdentifier: 5, path: "/x")] {
      #expect(Device(device.text) == device)
    }
    let text = try DefinitionEditor.set("vsock.cid", to: "auto", in: "", path: "m")
    #expect(try read(text).socketDevice == .init())
  }

  @Test func settings() throws {
    var text = ""
    for (key, value) in [
      ("cloud-init.user", "alice"), ("cloud-init.user-data", "/u"),
      ("cloud-init.ssh-authorized-keys", "ssh-rsa AAAA a"),
    ] { text = try DefinitionEditor.set(key, to: value, in: text, path: "m") }
    let settings = try read(text).cloudInit
    #expect(settings?.user == "alice")
    #expect(settings?.userData == "/u")
    #expect(settings?.authorizedKeys == ["ssh-rsa AAAA a"])
    #expect(DefinitionEditor.resolved("/a/../u", of: "cloud-init.user-data").hasPrefix("/"))
  }
}
