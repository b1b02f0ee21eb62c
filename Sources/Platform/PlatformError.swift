import CLinux

/// A system call that failed: which one, on what, and why.
public struct PlatformError: Error, Equatable, CustomStringConvertible {
  /// The call or the action, such as `open` or `KVM_CREATE_VM`.
  public var operation: String
  /// The value of `errno`.
  public var code: Int32
  /// The path or other object that the call was about.
  public var subject: String?

  public init(operation: String, code: Int32, subject: String? = nil) {
    self.operation = operation
    self.code = code
    self.subject = subject
  }

  /// The kernel's words for the error, such as "No such file or directory".
  public var reason: String { String(cString: strerror(code)) }

  public var description: String {
    if let subject { return "\(subject): \(reason) (\(operation))" }
    return "\(operation): \(reason)"
  }
}

/// Runs a system call, again as long as a signal interrupts it, and turns -1 into a typed error.
///
/// - Parameters:
///   - operation: The name shown in the error.
///   - subject: What the call is about, evaluated only on failure.
///   - retryOnInterrupt: Pass false where EINTR carries meaning, as in `KVM_RUN`.
@discardableResult
@inline(__always)
public func systemCall<Result: FixedWidthInteger & SignedInteger>(
  _ operation: StaticString, _ subject: @autoclosure () -> String? = nil,
  retryOnInterrupt: Bool = true, _ body: () -> Result
) throws(PlatformError) -> Result {
  while true {
    let result = body()
    if result != -1 { return result }
    // Read before anything else can call into C and change it.
    let code = linux_error_number()
    if code == EINTR && retryOnInterrupt { continue }
    throw PlatformError(operation: "\(operation)", code: code, subject: subject())
  }
}
