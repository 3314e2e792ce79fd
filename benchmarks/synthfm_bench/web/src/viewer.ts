// Three planes and a 3D view by NiiVue: the image, the mask as its drawing layer; the target's outline and the clicks on a
// canvas above.

import { DRAG_MODE, MULTIPLANAR_TYPE, Niivue, SHOW_RENDER, SLICE_TYPE, cmapper } from "@niivue/niivue";

import type { Opened, Step, Voxel } from "./api";

export interface Mark {
  zyx: Voxel;
  positive: boolean;
}

const CLICK_PIXELS = 5; // a pointer that moves farther between down and up was a drag
const CROSSHAIR = 1 / 600; // its width, as a share of the volume's longest side
const MASK = { R: [0, 255], G: [0, 148], B: [0, 20], A: [0, 255], I: [0, 1], labels: ["", "mask"] };
const CROSSHAIR_PIXELS = 3; // of the canvas's width, which two planes share: thinner lines vanish
const SOFTWARE_PIXELS = 0.5; // of those of the page, along each side, if no graphics card draws them
const PLANES: [SLICE_TYPE, number][] = [
  [SLICE_TYPE.AXIAL, 0], // and the axis across it
  [SLICE_TYPE.CORONAL, 1],
  [SLICE_TYPE.SAGITTAL, 2],
];

/** Call back in the first task after the repaint that is under way. */
function afterPaint(then: () => void): void {
  const channel = new MessageChannel();
  channel.port1.onmessage = then;
  channel.port2.postMessage(null);
}

export class Viewer {
  private readonly nv: Niivue;
  private shape: Voxel = [1, 1, 1];
  private down: { x: number; y: number } | null = null;
  private target: Uint8Array | null = null;
  private frame: Promise<void> | null = null; // the one that is asked for
  private software: boolean | undefined;
  private drawn = { width: 0, height: 0 }; // the canvas, in the newest frame
  private held = false; // frames wait for the mask
  private draw: () => unknown = () => undefined;
  /** Milliseconds that the newest frame took, the graphics card's part included. */
  frameMilliseconds = 0;
  marks: Mark[] = [];
  shows3d = true;
  onClick: (zyx: Voxel, button: number) => void = () => undefined;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly overlay: HTMLCanvasElement,
  ) {
    this.nv = new Niivue({
      backColor: [0.03, 0.035, 0.045, 1],
      crosshairColor: [1, 0.71, 0.33, 0.75],
      crosshairWidthUnit: "mm",
      dragMode: DRAG_MODE.none,
      dragAndDropEnabled: false,
      fontSizeScaling: 0.3,
      isOrientationTextVisible: true,
      isResizeCanvas: true,
      loadingText: "",
      logLevel: "error",
      multiplanarLayout: MULTIPLANAR_TYPE.GRID,
      multiplanarPadPixels: 4,
      multiplanarShowRender: SHOW_RENDER.ALWAYS,
      show3Dcrosshair: true,
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => {
      this.down = { x: event.clientX, y: event.clientY };
    });
    canvas.addEventListener("pointerup", (event) => this.released(event));
    new ResizeObserver(() => requestAnimationFrame(() => this.drawMarks())).observe(canvas);
  }

  async attach(): Promise<void> {
    await this.nv.attachToCanvas(this.canvas);
    this.shows3d = !this.drawnBySoftware;
    this.draw = this.nv.drawScene.bind(this.nv);
    this.nv.drawScene = () => {
      const { width, height } = this.canvas;
      if (width !== this.drawn.width || height !== this.drawn.height) this.drawNow(); // a resized canvas is empty
      else void this.nextFrame(); // a pointer that moves asks many times a frame
    };
    if (this.drawnBySoftware) {
      this.nv.opts.forceDevicePixelRatio = SOFTWARE_PIXELS;
      this.nv.resizeListener();
    }
    this.nv.setSliceType(SLICE_TYPE.MULTIPLANAR);
  }

  /**
   * Keep frames back until ``release``, if no graphics card draws them: the crosshair's frame would take the processor
   * from the segmenter that answers on the same machine.
   */
  hold(): void {
    this.held = this.drawnBySoftware;
  }

  /** Draw again. */
  release(): void {
    if (!this.held) return;
    this.held = false;
    void this.nextFrame();
  }

  /** Draw once before the next repaint, however often it is asked for; resolves when that has been painted. */
  private nextFrame(): Promise<void> {
    if (this.held) return Promise.resolve();
    this.frame ??= new Promise((painted) =>
      requestAnimationFrame(() => {
        this.frame = null;
        if (!this.held) this.drawNow();
        afterPaint(painted);
      }),
    );
    return this.frame;
  }

  private drawNow(): void {
    const begun = performance.now();
    this.drawn = { width: this.canvas.width, height: this.canvas.height };
    this.draw(); // waits for the graphics card
    this.drawMarks();
    this.frameMilliseconds = performance.now() - begun;
  }

  /** Show an image without a mask. */
  async open(image: ArrayBuffer, opened: Opened): Promise<void> {
    this.shape = opened.shape;
    this.marks = [];
    this.target = null;
    const extent = Math.max(...opened.shape.map((n, axis) => n * opened.spacing[axis]));
    this.nv.opts.crosshairWidth = extent * Math.max(CROSSHAIR, CROSSHAIR_PIXELS / this.canvas.width);
    while (this.nv.volumes.length) this.nv.removeVolume(this.nv.volumes[0]);
    this.nv.closeDrawing();
    await this.nv.loadFromArrayBuffer(image, "image.nii");
    this.nv.setIsOrientationTextVisible(this.shape[0] > 1);
    this.show3d(this.shows3d);
    this.nv.setSliceType(this.shape[0] > 1 ? SLICE_TYPE.MULTIPLANAR : SLICE_TYPE.AXIAL);
    this.nv.createEmptyDrawing();
    this.nv.drawLut = cmapper.makeDrawLut(MASK);
    this.nv.updateGLVolume(); // uploads the colours
    this.moveTo(this.shape.map((n) => Math.floor(n / 2)) as Voxel);
  }

  /** Show the 3D view beside the planes, or the planes alone. */
  show3d(shown: boolean): void {
    this.shows3d = shown;
    const possible = shown && this.shape[0] > 1;
    this.nv.opts.multiplanarShowRender = possible ? SHOW_RENDER.ALWAYS : SHOW_RENDER.NEVER;
    this.nv.drawScene();
  }

  /** Whether the browser has no graphics card: the 3D view then takes seconds a frame. */
  get drawnBySoftware(): boolean {
    return (this.software ??= this.findSoftware());
  }

  private findSoftware(): boolean {
    const details = this.nv.gl.getExtension("WEBGL_debug_renderer_info");
    const name = details ? String(this.nv.gl.getParameter(details.UNMASKED_RENDERER_WEBGL)) : "";
    return /swiftshader|llvmpipe|software/i.test(name);
  }

  /** Move to the axial slice that holds most of a mask; the crosshair stays in the middle, to suggest no voxel. */
  moveToLargestSlice(voxels: Uint8Array): void {
    const [depth, height, width] = this.shape;
    const areas = Array.from({ length: depth }, (_, z) =>
      voxels.subarray(z * height * width, (z + 1) * height * width).reduce((sum, voxel) => sum + voxel, 0),
    );
    this.moveTo([areas.indexOf(Math.max(...areas)), Math.floor(height / 2), Math.floor(width / 2)]);
  }

  /** Show the outline of a mask in the planes, or none. */
  showTarget(voxels: Uint8Array | null): void {
    this.target = voxels;
    this.drawMarks();
  }

  /** Write what a step changed into the mask; resolves when it has been painted. */
  apply(step: Step): Promise<void> {
    this.held = false;
    const { spans } = step.facts;
    const bitmap = this.nv.drawBitmap;
    if (spans && bitmap) {
      const [, height, width] = this.shape;
      const [[z0, z1], [y0, y1], [x0, x1]] = spans;
      let read = 0;
      for (let z = z0; z < z1; z += 1) {
        for (let y = y0; y < y1; y += 1) {
          bitmap.set(step.voxels.subarray(read, read + x1 - x0), (z * height + y) * width + x0);
          read += x1 - x0;
        }
      }
      this.upload([x0, y0, z0], [x1 - x0, y1 - y0, z1 - z0], step.voxels);
    }
    return this.nextFrame();
  }

  /** Copy a box of the mask to the graphics card; the rest of its texture stays as it is. */
  private upload(from: number[], size: number[], voxels: Uint8Array): void {
    if (this.nv.opts.is2DSliceShader) {
      this.nv.refreshDrawing(false); // an image too large for a 3D texture
      return;
    }
    const gl = this.nv.gl;
    const [x, y, z] = from;
    const [width, height, depth] = size;
    gl.activeTexture(gl.TEXTURE7); // where NiiVue binds its drawing
    gl.bindTexture(gl.TEXTURE_3D, this.nv.drawTexture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texSubImage3D(gl.TEXTURE_3D, 0, x, y, z, width, height, depth, gl.RED, gl.UNSIGNED_BYTE, voxels);
  }

  setOpacity(opacity: number): void {
    this.nv.setDrawOpacity(opacity);
  }

  /** The intensities shown: lowest and highest, and those of the image. */
  get window(): { low: number; high: number; least: number; most: number } {
    const image = this.nv.volumes[0];
    return {
      low: image.cal_min ?? 0,
      high: image.cal_max ?? 1,
      least: image.global_min ?? 0,
      most: image.global_max ?? 1,
    };
  }

  setWindow(low: number, high: number): void {
    const image = this.nv.volumes[0];
    image.cal_min = low;
    image.cal_max = Math.max(high, low + 1e-6);
    this.nv.updateGLVolume();
  }

  /** The voxel under the crosshair. */
  get crosshair(): Voxel {
    return this.voxelAt(Array.from(this.nv.scene.crosshairPos));
  }

  moveBy(zyx: Voxel): void {
    this.moveTo(this.crosshair.map((i, axis) => i + zyx[axis]) as Voxel);
  }

  moveTo(zyx: Voxel): void {
    const inside = zyx.map((i, axis) => Math.min(Math.max(i, 0), this.shape[axis] - 1)) as Voxel;
    this.nv.scene.crosshairPos = this.fraction(inside) as unknown as typeof this.nv.scene.crosshairPos;
    this.nv.drawScene();
  }

  /** For tests: whether a voxel is inside the mask that is shown. */
  maskAt([z, y, x]: Voxel): boolean {
    return Boolean(this.nv.drawBitmap?.[(z * this.shape[1] + y) * this.shape[2] + x]);
  }

  /** For tests: how many voxels of the mask are shown. */
  get maskVoxels(): number {
    return this.nv.drawBitmap?.reduce((sum, voxel) => sum + voxel, 0) ?? 0;
  }

  /** For tests: where on the page a voxel of the axial slice is, once the crosshair is on it. */
  pageposition(zyx: Voxel): { x: number; y: number } | null {
    this.moveTo(zyx);
    this.drawNow();
    return this.placeOf(zyx);
  }

  /** For tests: where on the page a voxel of the axial slice under the crosshair is. */
  placeOf(zyx: Voxel): { x: number; y: number } | null {
    const found = this.nv.frac2canvasPosWithTile(this.vec(this.fraction(zyx)), SLICE_TYPE.AXIAL);
    if (!found) return null;
    const box = this.canvas.getBoundingClientRect();
    return { x: box.left + found.pos[0] / this.scale, y: box.top + found.pos[1] / this.scale };
  }

  private released(event: PointerEvent): void {
    const down = this.down;
    this.down = null;
    if (!down || Math.hypot(event.clientX - down.x, event.clientY - down.y) > CLICK_PIXELS) return;
    const box = this.canvas.getBoundingClientRect();
    const place = [(event.clientX - box.left) * this.scale, (event.clientY - box.top) * this.scale];
    const fraction = Array.from(this.nv.canvasPos2frac(place));
    if (fraction[0] < 0) return; // between the tiles, or in the 3D view
    this.onClick(this.voxelAt(fraction), event.button);
  }

  private get scale(): number {
    return this.canvas.width / this.canvas.clientWidth;
  }

  private fraction(zyx: Voxel): number[] {
    return [2, 1, 0].map((axis) => (zyx[axis] + 0.5) / this.shape[axis]);
  }

  private voxelAt(fraction: number[]): Voxel {
    return [0, 1, 2].map((axis) => {
      const n = this.shape[axis];
      return Math.min(Math.max(Math.floor(fraction[2 - axis] * n), 0), n - 1);
    }) as Voxel;
  }

  private vec(values: number[]): Parameters<Niivue["frac2canvasPosWithTile"]>[0] {
    return values as unknown as Parameters<Niivue["frac2canvasPosWithTile"]>[0];
  }

  /** Draw each click in the planes whose slice holds it. */
  private drawMarks(): void {
    const context = this.overlay.getContext("2d");
    if (!context) return;
    const width = Math.round(this.overlay.clientWidth * devicePixelRatio);
    const height = Math.round(this.overlay.clientHeight * devicePixelRatio);
    if (this.overlay.width !== width || this.overlay.height !== height) {
      this.overlay.width = width;
      this.overlay.height = height;
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.scale(width / this.canvas.width, height / this.canvas.height); // places are in the canvas's pixels
    if (!this.nv.volumes.length) return;
    const here = this.crosshair;
    if (this.target) for (const [plane, axis] of PLANES) this.drawOutline(context, this.target, plane, axis, here);
    for (const { zyx, positive } of this.marks) {
      for (const [plane, axis] of PLANES) {
        if (zyx[axis] !== here[axis]) continue;
        const found = this.nv.frac2canvasPosWithTile(this.vec(this.fraction(zyx)), plane);
        if (found) this.drawMark(context, found.pos[0], found.pos[1], positive);
      }
    }
  }

  /** Draw the edges between voxels inside and outside a mask, in the slice of a plane that the crosshair is in. */
  private drawOutline(
    context: CanvasRenderingContext2D,
    mask: Uint8Array,
    plane: SLICE_TYPE,
    across: number,
    here: Voxel,
  ): void {
    const [rows, columns] = [0, 1, 2].filter((axis) => axis !== across);
    const [height, width] = [this.shape[rows], this.shape[columns]];
    if (height < 2 || width < 2) return;
    // Tiles are not rotated: three voxels give the place of all.
    const placeOf = (row: number, column: number) => {
      const zyx = [...here] as Voxel;
      [zyx[rows], zyx[columns]] = [row, column];
      return this.nv.frac2canvasPosWithTile(this.vec(this.fraction(zyx)), plane)?.pos;
    };
    const [origin, down, right] = [placeOf(0, 0), placeOf(height - 1, 0), placeOf(0, width - 1)];
    if (!origin || !down || !right) return;
    const x = (column: number) => origin[0] + ((column - 0.5) * (right[0] - origin[0])) / (width - 1);
    const y = (row: number) => origin[1] + ((row - 0.5) * (down[1] - origin[1])) / (height - 1);
    const strides = [this.shape[1] * this.shape[2], this.shape[2], 1];
    const first = here[across] * strides[across];
    const inside = (row: number, column: number) =>
      row >= 0 && column >= 0 && row < height && column < width &&
      mask[first + row * strides[rows] + column * strides[columns]] === 1;
    context.beginPath();
    for (let row = 0; row <= height; row += 1) {
      for (let column = 0; column <= width; column += 1) {
        const here = inside(row, column);
        if (here !== inside(row - 1, column)) {
          context.moveTo(x(column), y(row));
          context.lineTo(x(column + 1), y(row));
        }
        if (here !== inside(row, column - 1)) {
          context.moveTo(x(column), y(row));
          context.lineTo(x(column), y(row + 1));
        }
      }
    }
    context.lineWidth = 2 * this.scale;
    context.strokeStyle = "#4dff88";
    context.stroke();
  }

  private drawMark(context: CanvasRenderingContext2D, x: number, y: number, positive: boolean): void {
    const radius = 6 * this.scale;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = positive ? "#58d68d" : "#ff7a70";
    context.fill();
    context.lineWidth = 1.6 * this.scale;
    context.strokeStyle = "#101318";
    context.stroke();
    context.beginPath();
    context.moveTo(x - radius * 0.55, y);
    context.lineTo(x + radius * 0.55, y);
    if (positive) {
      context.moveTo(x, y - radius * 0.55);
      context.lineTo(x, y + radius * 0.55);
    }
    context.stroke();
  }
}
