import Hosting
import Testing

@Suite struct JSONTests {
  @Test(arguments: [
    "null", "true", "-12", "9223372036854775807", "1.5", "\"a\\n\\u00e9\\ud83d\\ude00\"",
    "[1,[],{}]", "{\"a\":[null],\"b\":\"\"}", " 7 ", "1e3",
  ])
  func roundTrip(_ text: String) throws {
    let value = try JSONValue(parsing: text)
    #expect(try JSONValue(parsing: value.text) == value)
    #expect(try JSONValue(parsing: value.prettyText) == value)
    #expect(!value.text.contains("\n"))
  }

  @Test func values() throws {
    #expect(try JSONValue(parsing: "\"\\ud83d\\ude00\"") == "😀")
    #expect(try JSONValue(parsing: "18446744073709551615") == .number(18_446_744_073_709_551_616))
    #expect(JSONValue.string("a\u{1}\"\\").text == #""a\u0001\"\\""#)
    #expect(try JSONValue(parsing: "[2.0]") == [.number(2)])
    #expect(JSONValue.number(2).integer == 2)
    #expect(JSONValue.number(.infinity).text == "null")
  }

  @Test(arguments: [
    "", "nul", "01", "+1", "1.", ".5", "1e", "-", "[1,]", "[1", "{\"a\"}", "{\"a\":}", "{a:1}",
    "\"\\x\"", "\"\\ud83d\"", "\"\\udc00\\ud83d\"", "\"\n\"", "\"", "1 2", "{}{}", "1e999",
    String(repeating: "[", count: 100_000),
  ])
  func refuses(_ text: String) {
    #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
  }

  @Test func refusesBrokenUTF8() {
    #expect(throws: JSONError.self) { try JSONValue(parsing: [0x22, 0xC3, 0x22] as [UInt8]) }
  }

  @Test func statusRoundTrip() throws {
    var status = MachineStatus(name: "a", state: .paused)
    status.process = 5
    status.memory = 1 << 40
    status.processorUse = 1.25
    status.uptime = 12
    status.clients = 2
    status.serialDevices = ["/dev/pts/3"]
    status.tags = ["x"]
    #expect(MachineStatus(try JSONValue(parsing: status.json.text)) == status)
    #expect(MachineStatus(["name": "a"]) == nil)
    #expect(MachineStatus(["name": "a", "state": "flying"]) == nil)
    #expect(
      MachineStatus(["name": "a", "state": "running", "memory": -1, "process": 99_999_999_999])
        == MachineStatus(name: "a", state: .running))
  }
}
