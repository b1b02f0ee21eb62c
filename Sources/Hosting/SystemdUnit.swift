import Inventory

/// Units for systemd's user manager (systemd.unit(5), systemd.service(5)).
package struct SystemdUnit {
  private let program: String
  private let home: String?

  /// - Parameters:
  ///   - program: `uj`, an absolute path.
  ///   - home: `$UNDERJACK_HOME` where it is set: the service manager does not have the shell's environment.
  package init(program: String, home: String? = nil) {
    self.program = program
    self.home = home
  }

  /// `uj@.service`: an instance is one machine.
  package var machine: String {
    """
    # Save as ~/.config/systemd/user/uj@.service, then:
    #   systemctl --user daemon-reload
    #   systemctl --user enable --now uj@NAME
    #   loginctl enable-linger            (machines start with the computer and outlive the session)
    [Unit]
    Description=Virtual machine %i
    After=network.target

    [Service]
    Type=exec
    \(environment)ExecStart=\(command) host %i
    # The power button; what still runs after TimeoutStopSec gets SIGTERM: disks are flushed, as after a power cut.
    ExecStop=\(command) stop --wait --timeout 110 %i
    TimeoutStopSec=120
    KillMode=mixed
    # A guest that powers off stays off; a host process that died is started again.
    Restart=on-failure
    RestartSec=2
    StartLimitBurst=5
    # The host needs nothing more than its machine's files, /dev/kvm and its socket.
    NoNewPrivileges=yes

    [Install]
    WantedBy=default.target

    """
  }

  /// `uj-autostart.service`: all machines with `autostart.enabled`.
  package var autostart: String {
    """
    # Save as ~/.config/systemd/user/uj-autostart.service, then:
    #   systemctl --user daemon-reload
    #   systemctl --user enable uj-autostart
    #   loginctl enable-linger            (machines start with the computer and outlive the session)
    [Unit]
    Description=Virtual machines that start with the computer
    After=network.target

    [Service]
    Type=oneshot
    # The machines' host processes belong to this unit from then on.
    RemainAfterExit=yes
    \(environment)ExecStart=\(command) autostart
    # A machine that does not start must not take the others down.
    SuccessExitStatus=1
    TimeoutStartSec=infinity
    ExecStop=\(command) stop --all --wait --timeout 110
    TimeoutStopSec=120
    KillMode=mixed

    [Install]
    WantedBy=default.target

    """
  }

  private var command: String { Self.quoted(program) }

  private var environment: String {
    home.map { "Environment=\(Self.quoted("UNDERJACK_HOME=\($0)"))\n" } ?? ""
  }

  /// A word of a command line or assignment as systemd reads it: `%` doubled, quotes and backslashes escaped.
  private static func quoted(_ text: String) -> String {
    var result = ""
    var needsQuotes = false
    for scalar in text.unicodeScalars {
      switch scalar {
      case "%": result += "%%"
      case "\"", "\\":
        result += "\\"
        result.unicodeScalars.append(scalar)
        needsQuotes = true
      case " ", "'", ";":
        result.unicodeScalars.append(scalar)
        needsQuotes = true
      default: result.unicodeScalars.append(scalar)
      }
    }
    return needsQuotes ? "\"\(result)\"" : result
  }
}
