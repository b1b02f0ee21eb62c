import Devices
import Networks
import Testing

@Suite struct NetworkConfigurationTests {
  @Test(arguments: [
    "stream:/run/peer.sock", "stream:/run/peer,listen", "stream:127.0.0.1:5555,model=e1000,listen",
    "tap:fd=3", "tap:fd=3:4", "bridge:br0,queues=4,rate=10M", "tap:tap0,queues=8",
    "user,rate=1500k", "user,local",
    "passt", "passt,ipv4-only,forward=tcp:2222:22", "user", "none", "tap:tap0", "switch:lab",
    "tap:tap0,model=e1000",
    "user,mac=02:00:00:00:00:07,locked,down",
    "user,network=192.168.7.0/24,isolated,ipv4-only,hostname=web,tftp=/srv/tftp,bootfile=pxelinux.0,forward=tcp:2222:22,forward=udp:0.0.0.0:53:10.0.2.15:53",
  ])
  func theNotationReadsWhatItWrites(_ text: String) throws {
    #expect(try NetworkConfiguration(text: text).text == text)
  }

  @Test func shortFormsMeanTheUsual() throws {
    let network = try NetworkConfiguration(text: "user,forward=2222:22,lladdr=02:00:00:00:00:0A")
    #expect(network.user.forwards.map(\.description) == ["tcp:2222:22"])
    #expect(network.user.forwards[0].hostAddress == .loopback)
    #expect(network.address == HardwareAddress(0x02_00_00_00_00_0A))
  }

  @Test(arguments: [
    ("", "must be user, passt, tap:NAME"), ("stream:", "must be user"),
    ("tap:fd=2", "must be user"), ("tap:fd=3:3", "must be user"), ("tap:fd=x", "must be user"),
    ("tap:fd=3,queues=2", "as many queues as descriptors"),
    ("user,queues=2", "a tap's or a bridge's"),
    ("tap:t,queues=9", "1 to 8"), ("tap:t,queues=0", "1 to 8"), ("tap:t,rate=5", "8k to 100G"),
    ("tap:t,queues=2,model=e1000", "has one queue"), ("bridge:a/b", "must be user"),
    ("stream:10.0.0.1:5", "must be user"), ("stream:127.0.0.1:0", "must be user"),
    ("user,listen", "a stream's"), ("stream:/s,forward=1:1", "a user network's"),
    ("passt,forward=1:10.0.2.15:1", "leave its address out"),
    ("passt,tftp=/srv", "a user network's"), ("bridge:", "must be user"),
    ("bridge", "must be user"), ("tap:", "must be user"),
    ("tap:a/b", "must be user"), ("switch:..", "must be user"),
    ("tap:sixteencharacter", "must be user"), ("user,mac=01:00:00:00:00:00", "first of them even"),
    ("user,mac=2:0:0:0:0:7", "six bytes"), ("user,forward=22", "HOST-PORT"),
    ("user,forward=0:22", "HOST-PORT"), ("user,forward=70000:22", "HOST-PORT"),
    ("user,forward=+1:22", "HOST-PORT"), ("user,network=10.0.2.0", "8 to 28 bits"),
    ("user,network=10.0.2.0/31", "8 to 28 bits"), ("user,model=ne2k", "virtio or e1000"),
    ("user,speed=9", "\"speed\""),
    ("user,locked=1", "takes no value"), ("user,forward", "needs a value"),
    ("tap:tap0,forward=2222:22", "a user network's"),
  ])
  func whatIsWrongIsNamed(_ text: String, _ expected: String) {
    do throws(NetworkError) {
      _ = try NetworkConfiguration(text: text)
      Issue.record("\(text) was taken")
    } catch {
      #expect(error.description.contains(expected), "\(error)")
      #expect(!error.description.contains("\n"))
    }
  }
}
