import ConsoleService
import ConsoleUI
import Hosting
import Inventory
import Machine

/// Opens the console: what `uj` without a verb does.
///
/// - Parameter attach: a machine whose serial console is opened at once.
func openConsole(attach: MachineName? = nil, theme: String? = nil) throws {
  let inventory = try openInventory()
  let accelerator: String
  do {
    accelerator = try AcceleratorReport().description
  } catch {
    // Machines can be looked at and made where none can run.
    accelerator = "none: \(error)"
  }
  let service = try HostedMachineService(inventory: inventory, accelerator: accelerator) {
    progress in
    try Demonstration(inventory: inventory) { line in progress(line, nil) }.prepare().description
  }
  var options = ConsoleUI.Options()
  options.attach = attach?.description
  options.theme = theme
  let status = ConsoleUI.run(service: service, files: .inventory, options: options)
  if status != 0 { throw ExitStatus(status: status) }
}
