set -e
S=$(dirname $0); O=$1; mkdir -p $O
F="-ffreestanding -fno-pic -fno-pie -fno-stack-protector -mgeneral-regs-only -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -O1 -Wall -Wextra -Werror"
for f in $S/*.c; do b=$(basename $f .c); gcc $F -mno-red-zone -c $f -o $O/$b.64.o; gcc $F -m32 -march=i686 -c $f -o $O/$b.32.o; done
gcc -c $S/entry64.S -o $O/entry.64.o
ld -T $S/image64.ld -o $O/image64 $O/entry.64.o $(ls $O/*.64.o | grep -v entry.64)
for v in MULTIBOOT PVH; do
gcc -m32 -DIMAGE64="\"$O/image64\"" -D$v -c $S/entry32.S -o $O/entry.32.$v.o
ld -m elf_i386 -T $S/image32.ld -o $O/$v $O/entry.32.$v.o $(ls $O/*.32.o | grep -v entry.32)
done
objcopy -O binary -j .text -j .rodata -j .data -j .image64 $O/PVH $O/flat
for x in 0 1; do gcc -m32 -DLOAD_FLAGS=$x -c $S/setup.S -o $O/setup.o; objcopy -O binary -j .text $O/setup.o $O/setup.bin; cat $O/setup.bin $O/flat > $O/linux$x; done
ls -la $O/flat
