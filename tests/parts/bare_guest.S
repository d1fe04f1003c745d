# A guest without an operating system, in one boot sector: it says that it is ready, obeys the power button and lets go of
# devices, as ACPI wants it, and sleeps in between. Registers: Intel ICH9 datasheet (PM1, GPE0); QEMU's
# docs/specs/acpi_pci_hotplug.rst; SeaBIOS puts the PM registers at 0x600.
.code16
.set PM1_STATUS, 0x600
.set PM1_ENABLE, 0x602
.set PM1_CONTROL, 0x604
.set GPE0_STATUS, 0x620
.set POWER_BUTTON, 0x100
.set SLEEP_S5, 0x2000
.set HOTPLUG_EVENT, 0x02
.set HOTPLUG_DOWN, 0xcc4
.set HOTPLUG_EJECT, 0xcc8
.set HOTPLUG_BUS, 0xcd0
.set BUSES, 128
.set UART_DATA, 0x3f8
.set UART_STATUS, 0x3fd

.globl _start
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7c00, %sp
    ljmp $0, $set_up
set_up:
    # The button is heard from here on; SeaBIOS leaves it off.
    movw $PM1_ENABLE, %dx
    movw $POWER_BUTTON, %ax
    outw %ax, %dx
    movw $ready, %si
    call say
    sti

# The BIOS's timer ends each sleep, 18 times a second.
rest:
    hlt
    movw $PM1_STATUS, %dx
    inw %dx, %ax
    testw $POWER_BUTTON, %ax
    jnz power_off
    movw $GPE0_STATUS, %dx
    inb %dx, %al
    testb $HOTPLUG_EVENT, %al
    jz rest
    movb $HOTPLUG_EVENT, %al
    outb %al, %dx

    xorl %ebx, %ebx
next_bus:
    movl %ebx, %eax
    movw $HOTPLUG_BUS, %dx
    outl %eax, %dx
    movw $HOTPLUG_DOWN, %dx
    inl %dx, %eax
    testl %eax, %eax
    jz no_request
    movw $HOTPLUG_EJECT, %dx
    outl %eax, %dx
    movw $let_go, %si
    call say
no_request:
    incl %ebx
    cmpl $BUSES, %ebx
    jb next_bus
    jmp rest

power_off:
    movw $POWER_BUTTON, %ax
    outw %ax, %dx
    movw $off, %si
    call say
    movw $PM1_CONTROL, %dx
    movw $SLEEP_S5, %ax
    outw %ax, %dx
    jmp rest

# Print the text at SI, which a zero ends.
say:
    lodsb
    testb %al, %al
    jz said
    movb %al, %ah
    movw $UART_STATUS, %dx
busy:
    inb %dx, %al
    testb $0x20, %al
    jz busy
    movb %ah, %al
    movw $UART_DATA, %dx
    outb %al, %dx
    jmp say
said:
    ret

ready:
    .asciz "FEDERATION-GUEST ready without an operating system\r\n"
let_go:
    .asciz "FEDERATION-GUEST lets go of a device\r\n"
off:
    .asciz "FEDERATION-GUEST goes off\r\n"

.org 510
    .word 0xaa55
