import CLinux
import Hosting
import Platform
import Synchronization
import Testing

@Suite struct PowerButtonTests {
  /// A guest that is still booting does not hear the button: it is pressed again until the guest powers off.
  @Test func aWishToStopIsRepeated() throws {
    let test = try TestHost(buttonInterval: 1)
    let client = try test.client()
    _ = try client.call("stop")
    let deadline = MonotonicClock.now + 20_000_000_000
    while MonotonicClock.now < deadline, test.machine.state.withLock({ $0.presses }) < 2 {
      usleep(20_000)
    }
    #expect(test.machine.state.withLock { $0.presses } >= 2)
    test.machine.state.withLock { $0.powersOffOnPress = true }
    #expect(test.waitForEnd()?.isClean == true)
  }

  /// A press that somebody asks for as such stays one.
  @Test func aSinglePressStaysSingle() throws {
    let test = try TestHost(buttonInterval: 1)
    let client = try test.client()
    _ = try client.call("powerButton")
    usleep(2_500_000)
    #expect(test.machine.state.withLock { $0.presses } == 1)
    _ = try client.call("stop", ["force": true])
    #expect(test.waitForEnd()?.isClean == true)
  }
}
