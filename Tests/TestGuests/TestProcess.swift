import CLinux
import Glibc
import Platform

/// Another program, run for a test: one that does not end is killed and told of, so that the tests after it still run.
package enum TestProcess {
  /// - Parameters:
  ///   - arguments: The program's absolute path and its arguments.
  ///   - environment: Additions to our own environment.
  ///   - folder: Where it runs; nil is our own working folder.
  ///   - input: What it reads from standard input.
  ///   - seconds: That it may take; with UNDERJACK_LONG_TESTS six times as many.
  /// - Throws: `TestGuestError` when it took longer, with what it and its children were doing.
  package static func run(
    _ arguments: [String], environment: [String: String] = [:], folder: String? = nil,
    input: String = "", seconds: Double = 300
  ) throws -> ChildProcess.Result {
    var situation: String?
    let seconds = getenv("UNDERJACK_LONG_TESTS") == nil ? seconds : seconds * 6
    let result = try ChildProcess.run(
      arguments, environment: environment, folder: folder, input: input, seconds: seconds,
      late: { situation = describe($0) })
    if let situation {
      throw TestGuestError(
        "\(arguments.joined(separator: " ")): no end within \(seconds) s\n\(situation)\n"
          + result.output)
    }
    return result
  }

  /// The threads of a process and what each waits for in the kernel, and all processes.
  package static func describe(_ process: pid_t) -> String {
    let script = """
      for task in /proc/\(process)/task/*; do
        echo "$(cat $task/comm): $(grep State $task/status) in $(cat $task/wchan), call $(cat $task/syscall)"
        cat $task/stack 2>/dev/null
      done
      ps -eo pid,ppid,stat,wchan:20,time,args --forest | grep -v '\\]$' | tail -n 100
      """
    let result = try? ChildProcess.run(["/bin/sh", "-c", script], seconds: 20)
    return result?.output ?? "nothing is known of process \(process)"
  }
}
