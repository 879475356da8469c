// The splat viewer inside reports: one function, `splatView(root)`, that shows the cloud packed into the page.
// Bundled with Spark and three.js by build.sh; reports carry the result, so they need no network.
import { Color, PerspectiveCamera, Scene, SRGBColorSpace, Vector2, Vector3, WebGLRenderer } from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { SparkRenderer, SplatMesh } from "@sparkjsdev/spark";

const AWAKE = 1500; // ms of drawing after the last motion: sorting comes a little later than the motion

window.splatView = async (root, bytes, view) => {
  const canvas = root.querySelector("canvas");
  const renderer = new WebGLRenderer({ canvas, antialias: false, preserveDrawingBuffer: true });
  renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
  renderer.setClearColor(new Color().setRGB(...view.background, SRGBColorSpace));
  const scene = new Scene();
  const blur = view.antialiased ? { blurAmount: 0.3 } : { preBlurAmount: 0.3, blurAmount: 0 };
  const spark = new SparkRenderer({ renderer, maxStdDev: Math.sqrt(11), minAlpha: 1 / 255, ...blur });
  spark.defaultView.sortRadial = false; // by depth, as clouds are trained
  scene.add(spark);
  const mesh = new SplatMesh({ fileBytes: bytes, fileType: "spz" });
  await mesh.initialized;
  scene.add(mesh);

  const distance = new Vector3(...view.position).distanceTo(new Vector3(...view.target));
  const camera = new PerspectiveCamera(view.fov, 1, distance / 200, distance * 200);
  camera.up.set(...view.up);
  const controls = new OrbitControls(camera, canvas);
  const home = () => {
    camera.position.set(...view.position);
    controls.target.set(...view.target);
    controls.update();
  };
  let until = 0;
  let drawing = false;
  const draw = () => {
    const { clientWidth: width, clientHeight: height } = canvas;
    const size = renderer.getSize(new Vector2());
    if (width && height && (size.x !== width || size.y !== height)) {
      renderer.setSize(width, height, false);
      camera.aspect = width / height;
      camera.updateProjectionMatrix();
    }
    controls.update();
    renderer.render(scene, camera);
    drawing = performance.now() < until;
    if (drawing) requestAnimationFrame(draw);
  };
  const wake = () => {
    until = performance.now() + AWAKE;
    if (!drawing) requestAnimationFrame(draw);
    drawing = true;
  };
  controls.addEventListener("change", wake);
  new ResizeObserver(wake).observe(canvas);
  canvas.addEventListener("dblclick", () => (home(), wake()));
  home();
  wake();
};
