/* How the card's PCIe function identifies itself in configuration space, and where MSI-X lies in BAR0. */
#ifndef CX_PCI_ID_H
#define CX_PCI_ID_H

#define CX_PCI_VENDOR_ID 0xc5a1
#define CX_PCI_DEVICE_ID 0x3210
#define CX_PCI_REVISION_ID 0x01
#define CX_PCI_CLASS_CODE 0x120000 /* processing accelerator */

/* Table and pending bits are the msix block's ADDR_LO and PBA. */
#define CX_PCI_MSIX_VECTORS 32
#define CX_PCI_MSIX_BAR 0
#define CX_PCI_MSIX_TABLE 0x20000
#define CX_PCI_MSIX_PBA 0x28000

#endif
