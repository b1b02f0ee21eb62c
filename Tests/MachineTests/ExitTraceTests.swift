import Machine
import Platform
import Testing

struct ExitTraceTests {
  @Test("nothing is counted before somebody looks, nor after nobody does any more")
  func lease() {
    let trace = ExitTrace()
    #expect(trace.probe.begin() == 0)
    #expect(trace.read(until: 1000).isEmpty)
    let start = trace.probe.begin()
    #expect(start > 0)
    trace.probe.end(start, ExitProbe.Code.portWrite, 0x3F8)
    trace.expire(at: 999)
    #expect(trace.probe.begin() > 0)
    trace.expire(at: 1000)
    #expect(trace.probe.begin() == 0)
    // An access that began before is counted nowhere, and what was counted stays.
    trace.probe.end(start, ExitProbe.Code.portWrite, 0x3F8)
    let rows = trace.read(until: 2000)
    #expect(rows.count == 1 && rows.first?.count == 1)
  }

  @Test("rows are told apart by kind and place, memory by pages, and a full table loses no exit")
  func places() throws {
    let trace = ExitTrace()
    _ = trace.read(until: .max)
    let now = MonotonicClock.now
    for _ in 0..<3 { trace.probe.end(now, ExitProbe.Code.memoryRead, 0xFEB0_0010) }
    trace.probe.end(now, ExitProbe.Code.memoryRead, 0xFEB0_0FFF)
    trace.probe.end(now, ExitProbe.Code.memoryRead, 0xFEB0_1000)
    trace.probe.end(now - 1_000_000_000_000, ExitKind.halted.code, 0)
    var rows = trace.read(until: .max)
    #expect(rows.count == 3)
    let page = try #require(rows.first { $0.place == 0xFEB0_0000 })
    #expect(page.kind == .memoryRead && page.count == 4)
    let halt = try #require(rows.first { $0.kind == .halted })
    // Longer than any bucket's end.
    #expect(halt.buckets.last == 1 && halt.longest >= 1_000_000_000_000)
    for port in 0..<5000 { trace.probe.end(now, ExitProbe.Code.portRead, UInt64(port)) }
    rows = trace.read(until: .max)
    #expect(rows.count <= 513)
    #expect(rows.reduce(0) { $0 + $1.count } == 5006)
    #expect(rows.contains { $0.kind == .other && $0.count > 4000 })
    for row in rows { #expect(row.buckets.reduce(0, +) == row.count) }
  }

  @Test("the last accesses are there in their order")
  func ring() {
    let trace = ExitTrace()
    for number in 0..<100 {
      trace.probe.note(ExitProbe.Code.portWrite, 0x80, size: 1, UInt64(number))
    }
    let accesses = trace.probe.lastAccesses()
    #expect(accesses.map(\.value) == (68..<100).map { UInt64($0) })
    #expect(accesses.allSatisfy { $0.kind == .portWrite && $0.place == 0x80 && $0.size == 1 })
  }

  @Test("what a disk is asked for is counted by kind, with its time")
  func disk() {
    let counters = DiskCounters()
    let now = MonotonicClock.now
    counters.note(.read, bytes: 512, since: now, failed: false)
    counters.note(.read, bytes: 4096, since: now - 3_000_000_000, failed: true)
    counters.note(.flush, bytes: 0, since: now - 60_000, failed: false)
    let statistics = counters.statistics
    #expect(statistics.reads.count == 2 && statistics.reads.bytes == 512)
    #expect(statistics.reads.errors == 1 && statistics.reads.buckets.last == 1)
    #expect(statistics.flushes.count == 1 && statistics.flushes.buckets[0] == 0)
    #expect(statistics.writes == OperationStatistics())
  }
}
