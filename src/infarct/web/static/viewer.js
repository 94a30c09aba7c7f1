// Linked images: one NiiVue instance per image, with a common crosshair and a common mask.
import { el } from "/static/dom.js";
import { Labels } from "/static/labels.js";

const TITLES = { dwi: "DWI", b0: "b0", adc: "ADC", probability: "Probability" };
const LOOK = {
  dwi: { colormap: "gray" },
  b0: { colormap: "gray" },
  adc: { colormap: "gray", cal_min: 0, cal_max: 2.5e-3 },
  probability: { colormap: "inferno", cal_min: 0, cal_max: 1 },
};
// 1 lesion (or first reader only), 2 second reader only, 3 both readers.
const COLOURS = { R: [0, 255, 60, 255], G: [0, 176, 160, 255], B: [0, 0, 255, 255], A: [0, 255, 255, 255], labels: ["", "lesion", "second reader", "both readers"] };
const PLANES = { axial: (nv) => nv.sliceTypeAxial, coronal: (nv) => nv.sliceTypeCoronal, sagittal: (nv) => nv.sliceTypeSagittal };
const AXES = { axial: 2, coronal: 1, sagittal: 0 };

export const PLANE_NAMES = Object.keys(PLANES);

export class Viewer {
  // `names` are the images to show; `onmove(voxel)` is called when the crosshair moves.
  constructor(scan, names, onmove) {
    this.scan = scan;
    this.names = names;
    this.onmove = onmove;
    this.panes = [];
    this.plane = "axial";
    this.shown = true;
    this.moving = false;
    this.element = el("div", { class: "images", "data-show": "dwi", tabIndex: 0, role: "group", "aria-label": "Images; see Mouse and keyboard below" });
  }

  async open() {
    this.library = await import("/static/niivue.js");
    const pane = await this.add("dwi");
    const volume = pane.nv.volumes[0];
    const dims = volume.dimsRAS.slice(1, 4);
    this.grid = { dims, spacing: volume.pixDimsRAS.slice(1, 4), start: volume.img2RASstart, step: volume.img2RASstep };
    this.labels = new Labels(this.grid);
    this.draw(pane);
    this.element.dataset.show = "dwi";
  }

  // Loads an image when it is first shown: every image needs a graphics context of its own.
  async add(name) {
    const { Niivue, DRAG_MODE } = this.library;
    const canvas = el("canvas", { tabIndex: -1, "aria-hidden": "true" });
    const box = el("div", { class: "image", "data-key": name }, el("span", { class: "title" }, TITLES[name]), el("div", { class: "frame" }, canvas));
    this.element.append(box);
    const nv = new Niivue({
      isRadiologicalConvention: true,
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.4, 0.8, 1, 0.7],
      crosshairWidth: 0.3,
      showAllOrientationMarkers: true,
      crosshairGap: 5,
      show3Dcrosshair: false,
      dragAndDropEnabled: false,
      isColorbar: false,
      isOrientCube: false,
      fontColor: [1, 1, 1, 1],
      logLevel: "error",
      viewModeHotKey: "",
      clipPlaneHotKey: "",
      mouseEventConfig: {
        leftButton: { primary: DRAG_MODE.crosshair, withShift: DRAG_MODE.windowing, withCtrl: DRAG_MODE.pan },
        rightButton: DRAG_MODE.windowing,
        centerButton: DRAG_MODE.pan,
      },
      touchEventConfig: { singleTouch: DRAG_MODE.crosshair, doubleTouch: DRAG_MODE.windowing },
    });
    await nv.attachToCanvas(canvas);
    // The library makes it focusable; the keyboard works on the whole page instead.
    canvas.tabIndex = -1;
    if (!nv.gl) throw new Error("this browser cannot show 3D images (WebGL 2 is missing or switched off)");
    const pane = { name, nv, canvas, box };
    nv.setSliceType(PLANES[this.plane](nv));
    await nv.loadVolumes([{ url: `/api/scans/${this.scan}/images/${name}.nii.gz`, name: `${name}.nii.gz`, ...LOOK[name] }]);
    if (name === "dwi" || name === "b0") {
      // Most of the image is air, so the library's own window would show the brain too bright.
      const volume = nv.volumes[0];
      const inside = volume.img.filter((value) => value > 0).sort();
      volume.cal_min = 0;
      volume.cal_max = volume.intensityRaw2Scaled(inside[Math.floor(0.998 * inside.length)] ?? 1);
      nv.updateGLVolume();
    }
    nv.onLocationChange = () => this.moved(pane);
    this.panes.push(pane);
    return pane;
  }

  draw({ nv }) {
    nv.createEmptyDrawing();
    nv.drawBitmap = this.labels.data;
    nv.setDrawColormap(COLOURS);
  }

  // Signal of the DWI in the order of the labels.
  signal() {
    const volume = this.panes[0].nv.volumes[0];
    this.values ??= volume.img2RAS();
    return this.values;
  }

  voxel() {
    const { nv } = this.panes[0];
    return [...nv.frac2vox(nv.scene.crosshairPos)].slice(0, 3).map(Math.round);
  }

  moved(source) {
    if (this.moving || !this.labels) return;
    this.moving = true;
    for (const { nv, box } of this.panes) {
      if (nv === source.nv) continue;
      nv.scene.crosshairPos = [...source.nv.scene.crosshairPos];
      nv.scene.pan2Dxyzmm = [...source.nv.scene.pan2Dxyzmm];
      if (!box.hidden) nv.drawScene();
    }
    this.moving = false;
    this.onmove(this.voxel());
  }

  go(voxel) {
    const { dims } = this.grid;
    const at = voxel.map((each, k) => Math.min(dims[k] - 1, Math.max(0, each)));
    const frac = at.map((each, k) => (each + 0.5) / dims[k]);
    for (const { nv, box } of this.panes) {
      nv.scene.crosshairPos = [...frac];
      if (!box.hidden) nv.drawScene();
    }
    this.onmove(at);
  }

  goMm(point) {
    const { nv } = this.panes[0];
    this.go([...nv.frac2vox(nv.mm2frac(point))].slice(0, 3).map(Math.round));
  }

  step(axis, by) {
    const at = this.voxel();
    at[axis] += by;
    this.go(at);
  }

  axis() {
    return AXES[this.plane];
  }

  setPlane(plane) {
    this.plane = plane;
    for (const { nv } of this.panes) nv.setSliceType(PLANES[plane](nv));
  }

  // Shows one image, or all side by side.
  async show(which) {
    this.wanted = which;
    for (const name of which === "all" ? this.names : [which]) {
      if (this.panes.some((pane) => pane.name === name)) continue;
      this.draw(await this.add(name));
    }
    if (this.wanted !== which) return;
    this.element.dataset.show = which;
    const [first] = this.panes;
    for (const { name, nv, box } of this.panes) {
      box.hidden = which !== "all" && which !== name;
      nv.scene.crosshairPos = [...first.nv.scene.crosshairPos];
      if (!box.hidden) nv.resizeListener();
    }
    this.refresh();
  }

  overlay(on) {
    this.shown = on;
    this.refresh();
  }

  refresh() {
    for (const { nv, box } of this.panes) {
      if (box.hidden) continue;
      nv.drawBitmap = this.labels.data;
      nv.drawOpacity = this.shown ? 0.2 : 0;
      nv.drawRimOpacity = this.shown ? 1 : 0;
      nv.refreshDrawing(true);
    }
  }

  // Frees the graphics memory; browsers allow only a few contexts.
  close() {
    for (const { nv } of this.panes) {
      nv.onLocationChange = () => {};
      nv.cleanup?.();
      nv.gl?.getExtension("WEBGL_lose_context")?.loseContext();
    }
    this.panes = [];
  }
}
