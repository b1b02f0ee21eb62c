import CSoftProcessor
import Testing

@Suite struct LayoutTests {
  @Test func registersComeFirst() {
    #expect(MemoryLayout<soft_cpu>.offset(of: \.registers) == 0)
    #expect(MemoryLayout<soft_operation>.size == 32)
  }
}
