// A strength map as text: a grey PNG of 8 bits in base64, as metadata.py reads and writes it (pack_map, unpack_map).
const PNG_SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const SUB_FILTER = 1; // of a row: each byte is the difference to the one before
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

const crc32 = (bytes) => ~bytes.reduce((crc, byte) => CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8), -1) >>> 0;

// A chunk of a PNG file: length, name, content, checksum.
function pngChunk(name, content) {
  const chunk = new Uint8Array(12 + content.length);
  chunk.set(new TextEncoder().encode(name), 4);
  chunk.set(content, 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, content.length);
  view.setUint32(8 + content.length, crc32(chunk.subarray(4, 8 + content.length)));
  return chunk;
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function filteredRows({ width, height, data }) {
  const rows = new Uint8Array((width + 1) * height);
  for (let y = 0; y < height; y++) {
    rows[y * (width + 1)] = SUB_FILTER;
    for (let x = 0; x < width; x++)
      rows[y * (width + 1) + 1 + x] = data[y * width + x] - (x > 0 ? data[y * width + x - 1] : 0);
  }
  return rows;
}

// map: {width, height, data: bytes}.
async function packMap(map) {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, map.width);
  view.setUint32(4, map.height);
  header[8] = 8; // bits; the other fields are 0: grey, deflate, filters for each row, not interlaced
  const chunks = [pngChunk("IHDR", header), pngChunk("IDAT", await deflated(filteredRows(map))), pngChunk("IEND", [])];
  let text = "";
  for (const part of [PNG_SIGNATURE, ...chunks])
    for (const byte of part) text += String.fromCharCode(byte);
  return btoa(text);
}

// The bytes of a packed map in the given size, stretched where it has another one. Throws where it is none. Needs a page.
async function unpackMap(text, { width, height }) {
  const image = new Image();
  image.src = "data:image/png;base64," + text;
  await image.decode();
  const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  context.imageSmoothingEnabled = image.naturalWidth !== width || image.naturalHeight !== height;
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height).data;
  return Uint8Array.from({ length: width * height }, (_, place) => pixels[4 * place]);
}
