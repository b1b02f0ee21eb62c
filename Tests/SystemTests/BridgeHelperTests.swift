import Glibc
import Hosting
import NetworkGuests
import Platform
import TestGuests
import Testing

private let missing: String? = {
  if let missing = NetworkedMachine.missing { return missing }
  guard geteuid() == 0, access("/dev/net/tun", R_OK | W_OK) == 0 else {
    return "taps need root and /dev/net/tun"
  }
  guard access("/usr/bin/setpriv", X_OK) == 0 else { return "setpriv is missing" }
  return nil
}()

/// A person without rights puts a machine on a bridge: a helper with more rights makes the tap and hands its descriptor
/// over (SCM_RIGHTS), if the administrator's file allows it.
@Suite(.serialized, .enabled(if: missing == nil, "\(missing ?? "")"))
struct BridgeHelperTests {
  /// Everything that `nobody` needs, readable.
  private func makeFolder() throws -> String {
    let folder = try TestFolder.make("bridge")
    let guest = try NetworkGuest(
      script: """
        ip addr add 10.9.0.2/24 dev eth0
        ping -c 3 -W 5 10.9.0.1
        poweroff -f
        """, in: folder)
    let result = try TestProcess.run([
      "/bin/sh", "-ec",
      """
      cd \(folder); chmod 755 .
      cp \(Underjack.program) uj; cp \(guest.kernel) kernel; mv \(guest.initrd) initrd
      chmod 644 kernel initrd
      mkdir own; chown nobody own
      cp uj bridge-helper; chmod 4755 bridge-helper
      """,
    ])
    #expect(result.status == 0, "\(result.output)")
    return folder
  }

  /// What `uj run` says to `nobody`, with this file as /etc/underjack/bridge.conf. Only its processes see it and the bridge.
  private func run(_ folder: String, allowed line: String) throws -> ChildProcess.Result {
    try TestProcess.run(
      [
        "/usr/bin/unshare", "-n", "-m", "/bin/sh", "-ec",
        """
        mount --make-rprivate /
        mount -t tmpfs none /mnt; mkdir /mnt/upper /mnt/work
        mount -t overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work none /etc
        mkdir -p /etc/underjack; echo '\(line)' > /etc/underjack/bridge.conf
        ip link set lo up
        ip link add br0 type bridge; ip addr add 10.9.0.1/24 dev br0; ip link set br0 up
        exec setpriv --reuid nobody --regid 65534 --clear-groups ./uj run --accel soft \
          --memory 192M --kernel kernel --initrd initrd \
          --append 'console=ttyS0 quiet nodhcp' --net bridge:br0
        """,
      ],
      environment: [
        "UNDERJACK_HOME": "\(folder)/own/home", "XDG_RUNTIME_DIR": "\(folder)/own/run",
        "XDG_CONFIG_HOME": "\(folder)/own/config",
        "UNDERJACK_BRIDGE_HELPER": "\(folder)/bridge-helper",
      ], folder: folder, seconds: 240)
  }

  @Test("who is allowed gets a tap from the helper, and who is not gets a line")
  func handOver() throws {
    let folder = try makeFolder()
    let refused = try run(folder, allowed: "deny br0 user:nobody")
    #expect(refused.status != 0)
    #expect(
      refused.output.contains(
        "/etc/underjack/bridge.conf does not allow you the bridge br0"), "\(refused.output)")
    let allowed = try run(folder, allowed: "allow br0 user:nobody")
    #expect(allowed.output.contains("3 packets received"), "\(allowed.output)")
  }
}
