// The voxels of a mask while it is edited: brush, growing, deleting, undo and redo.
// Voxels are in the order of the viewer (x to the right of the patient's left, y forward, z up).

const MOST_UNDO = 200;

export class Labels {
  // `grid` has dims (3), spacing (3, mm), start (3) and step (3): the voxel (x, y, z) of the viewer is
  // number start[0] + x step[0] + start[1] + y step[1] + start[2] + z step[2] in the file.
  constructor(grid) {
    this.grid = grid;
    this.data = new Uint8Array(grid.dims[0] * grid.dims[1] * grid.dims[2]);
    this.past = [];
    this.future = [];
    this.stroke = null;
  }

  index(x, y, z) {
    const [nx, ny, nz] = this.grid.dims;
    return x < 0 || y < 0 || z < 0 || x >= nx || y >= ny || z >= nz ? -1 : x + nx * (y + ny * z);
  }

  place(index) {
    const [nx, ny] = this.grid.dims;
    return [index % nx, Math.floor(index / nx) % ny, Math.floor(index / (nx * ny))];
  }

  *pairs() {
    const { dims, start, step } = this.grid;
    let index = 0;
    for (let z = 0; z < dims[2]; z++) {
      const ofZ = start[2] + z * step[2];
      for (let y = 0; y < dims[1]; y++) {
        let own = start[0] + start[1] + y * step[1] + ofZ;
        for (let x = 0; x < dims[0]; x++, index++, own += step[0]) yield [index, own];
      }
    }
  }

  fromFile(voxels) {
    for (const [index, own] of this.pairs()) this.data[index] = voxels[own];
  }

  toFile() {
    const voxels = new Uint8Array(this.data.length);
    for (const [index, own] of this.pairs()) voxels[own] = this.data[index] ? 1 : 0;
    return voxels;
  }

  begin() {
    this.stroke = new Map();
  }

  set(index, value) {
    if (index < 0 || this.data[index] === value) return;
    if (this.stroke && !this.stroke.has(index)) this.stroke.set(index, this.data[index]);
    this.data[index] = value;
  }

  end() {
    const stroke = this.stroke;
    this.stroke = null;
    if (!stroke || !stroke.size) return false;
    this.past.push(stroke);
    if (this.past.length > MOST_UNDO) this.past.shift();
    this.future = [];
    return true;
  }

  undo() {
    return this.swap(this.past, this.future);
  }

  redo() {
    return this.swap(this.future, this.past);
  }

  swap(from, to) {
    const stroke = from.pop();
    if (!stroke) return false;
    const reverse = new Map();
    for (const [index, value] of stroke) {
      reverse.set(index, this.data[index]);
      this.data[index] = value;
    }
    to.push(reverse);
    return true;
  }

  // A disc in the plane perpendicular to `axis`, `radius` in mm; always at least one voxel.
  brush([x, y, z], axis, radius, value) {
    const centre = [x, y, z];
    const [a, b] = [0, 1, 2].filter((each) => each !== axis);
    const { spacing } = this.grid;
    const [ra, rb] = [Math.floor(radius / spacing[a]), Math.floor(radius / spacing[b])];
    for (let i = -ra; i <= ra; i++) {
      for (let j = -rb; j <= rb; j++) {
        if ((i * spacing[a]) ** 2 + (j * spacing[b]) ** 2 > radius ** 2) continue;
        const at = [...centre];
        at[a] += i;
        at[b] += j;
        this.set(this.index(...at), value);
      }
    }
  }

  line(from, to, axis, radius, value) {
    const steps = Math.max(1, ...to.map((each, k) => Math.abs(each - from[k])));
    for (let n = 0; n <= steps; n++) {
      this.brush(from.map((each, k) => Math.round(each + ((to[k] - each) * n) / steps)), axis, radius, value);
    }
  }

  // Voxels connected to the seed for which `accept` holds, including diagonal neighbours if asked.
  connected(seed, accept, diagonal) {
    const first = this.index(...seed);
    if (first < 0 || !accept(first, seed)) return [];
    const near = [];
    for (let dz = -1; dz <= 1; dz++)
      for (let dy = -1; dy <= 1; dy++)
        for (let dx = -1; dx <= 1; dx++) {
          const moved = Math.abs(dx) + Math.abs(dy) + Math.abs(dz);
          if (moved === 1 || (diagonal && moved > 1)) near.push([dx, dy, dz]);
        }
    const seen = new Set([first]);
    const found = [first];
    for (let n = 0; n < found.length; n++) {
      const [x, y, z] = this.place(found[n]);
      for (const [dx, dy, dz] of near) {
        const at = [x + dx, y + dy, z + dz];
        const index = this.index(...at);
        if (index >= 0 && !seen.has(index) && accept(index, at)) {
          seen.add(index);
          found.push(index);
        }
      }
    }
    return found;
  }

  // Adds the voxels connected to the seed whose signal is within `tolerance` (a share) of the seed's,
  // no further than `reach` mm from it.
  grow(seed, signal, tolerance, reach) {
    const { spacing } = this.grid;
    const level = signal[this.index(...seed)];
    const accept = (index, at) =>
      Math.abs(signal[index] - level) <= tolerance * Math.abs(level) &&
      Math.hypot(...at.map((each, k) => (each - seed[k]) * spacing[k])) <= reach;
    const found = this.connected(seed, accept, false);
    this.begin();
    for (const index of found) this.set(index, 1);
    return this.end();
  }

  remove(seed) {
    const found = this.connected(seed, (index) => this.data[index] > 0, true);
    this.begin();
    for (const index of found) this.set(index, 0);
    return this.end();
  }

  count() {
    let count = 0;
    for (const value of this.data) if (value) count++;
    return count;
  }

  volumeMl() {
    return (this.count() * this.grid.spacing[0] * this.grid.spacing[1] * this.grid.spacing[2]) / 1000;
  }

  // Runs of lesion voxels as a compact text, for the draft that survives a reload.
  toText() {
    const runs = [];
    let last = 0;
    for (let index = 0; index < this.data.length; ) {
      if (!this.data[index]) {
        index++;
        continue;
      }
      let end = index;
      while (end < this.data.length && this.data[end]) end++;
      runs.push(`${(index - last).toString(36)}.${(end - index).toString(36)}`);
      last = end;
      index = end;
    }
    return runs.join(" ");
  }

  fromText(text) {
    this.data.fill(0);
    let at = 0;
    for (const run of text ? text.split(" ") : []) {
      const [skip, length] = run.split(".").map((each) => parseInt(each, 36));
      this.data.fill(1, at + skip, at + skip + length);
      at += skip + length;
    }
  }
}

async function through(bytes, stream) {
  const blob = new Blob([bytes]);
  return new Uint8Array(await new Response(blob.stream().pipeThrough(stream)).arrayBuffer());
}

export async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  return through(bytes, new DecompressionStream("deflate"));
}

export async function pack(voxels) {
  const bytes = await through(voxels, new CompressionStream("deflate"));
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
}
