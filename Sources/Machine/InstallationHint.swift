import CLinux
import Networks

extension MachineConfiguration {
  /// What DHCP names as the file to boot when a guest is to install itself: OpenBSD's installer asks no questions then
  /// and fetches its answers from the server (autoinstall(8)). vmd says so for a boot device `net`.
  private static let installationFile = "auto_install"

  /// The adapters as they are at this start: booting from the network, a user network without a `bootfile` names
  /// `auto_install`, if a kernel is started directly, as with vmd, or if TFTP serves a file of that name.
  public var bootedNetworks: [NetworkConfiguration] {
    guard bootOrder.first == .net else { return networks }
    let isKernel = if case .kernel = boot { true } else { false }
    return networks.map { network in
      guard network.kind == .user, network.user.bootFile == nil else { return network }
      let served = network.user.tftpFolder.map { "\($0)/\(Self.installationFile)" }
      guard isKernel || served.map({ access($0, R_OK) == 0 }) ?? false else { return network }
      var result = network
      result.user.bootFile = Self.installationFile
      return result
    }
  }
}
