package bus

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/highwayhash"

	"tongan.dev/pkg/subject"
)

// A nats-server (2.15) that removes a message for good writes down first that it is removed, and then overwrites it. If it is killed in between,
// nobody can remove it again, and its bytes stay: those of a key that is said to be destroyed. So what is removed and not overwritten is
// overwritten before a server starts, in the same way and form.

// Layout of a record: its length and flags, sequence and flags, time, length of the subject; subject, headers and payload; checksum.
const (
	recordHead = 4 + 8 + 8 + 2
	recordSum  = highwayhash.Size64
	withHeader = 1 << 31 // of the length
	isErased   = 1 << 63 // of the sequence
	isRemoval  = 1 << 62
)

// Scrub overwrites what was removed from the streams that hold keys and indexes, in the folder of a server that does not run, and returns of
// how many messages.
func Scrub(dir string) (int, error) {
	scrubbed := 0
	for _, stream := range []string{subject.StreamKeys, subject.StreamIndex} {
		folders, err := filepath.Glob(filepath.Join(dir, streamsDir, "*", "streams", stream, "msgs"))
		if err != nil {
			return scrubbed, fmt.Errorf("scrub %s: %w", stream, err)
		}
		for _, folder := range folders {
			n, err := scrubStream(folder, stream)
			if scrubbed += n; err != nil {
				return scrubbed, fmt.Errorf("scrub %s: %w", stream, err)
			}
		}
	}
	return scrubbed, nil
}

// block is one of the files of a stream.
type block struct {
	path  string
	index int
	bytes []byte
}

func scrubStream(folder, stream string) (int, error) {
	blocks, err := readBlocks(folder)
	if err != nil {
		return 0, err
	}
	removed := make(map[uint64]bool)
	for _, b := range blocks {
		for _, r := range records(b.bytes) {
			if s := sequence(r); s&isRemoval != 0 {
				removed[s&^isRemoval] = true
			}
		}
	}
	scrubbed := 0
	for _, b := range blocks {
		n := 0
		for _, r := range records(b.bytes) {
			if s := sequence(r); s&(isErased|isRemoval) == 0 && removed[s] {
				if err := erase(r, stream, b.index); err != nil {
					return scrubbed, err
				}
				n++
			}
		}
		if n > 0 {
			if err := replace(b); err != nil {
				return scrubbed, err
			}
		}
		scrubbed += n
	}
	return scrubbed, nil
}

// readBlocks reads the files of a stream, in order.
func readBlocks(folder string) ([]block, error) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var blocks []block
	for _, f := range files {
		number, isBlock := strings.CutSuffix(f.Name(), ".blk")
		index, err := strconv.Atoi(number)
		if !isBlock || err != nil {
			continue
		}
		path := filepath.Join(folder, f.Name())
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, block{path, index, b})
	}
	slices.SortFunc(blocks, func(a, b block) int { return a.index - b.index })
	return blocks, nil
}

// records are the whole records of a block. What follows them, or is none, is the server's to judge.
func records(b []byte) [][]byte {
	var out [][]byte
	for len(b) >= recordHead+recordSum {
		n := int(binary.LittleEndian.Uint32(b) &^ withHeader)
		if n < recordHead+recordSum || n > len(b) {
			break
		}
		out, b = append(out, b[:n]), b[n:]
	}
	return out
}

func sequence(record []byte) uint64 { return binary.LittleEndian.Uint64(record[4:]) }

// erase makes an erased record of one, as the server does.
func erase(record []byte, stream string, index int) error {
	binary.LittleEndian.PutUint32(record, uint32(len(record)))
	binary.LittleEndian.PutUint64(record[4:], sequence(record)|isErased)
	clear(record[12:recordHead])
	body := record[recordHead : len(record)-recordSum]
	_, _ = rand.Read(body) // never fails
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, index))
	sum, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return err
	}
	_, _ = sum.Write(record[4:20])
	_, _ = sum.Write(body)
	copy(record[len(record)-recordSum:], sum.Sum(nil))
	return nil
}

// replace puts a block in the place of the one there is, whole.
func replace(b block) error {
	f, err := os.OpenFile(b.path+".scrubbed", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b.bytes)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), b.path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(b.path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
